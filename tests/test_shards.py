import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinynet.errors import UserError
from tinynet.layout import sample_stride, tar_headers
from tinynet.order import Plan
from tinynet.packing import pack
from tinynet.shards import PROBES, Manifest, Shard, Split, read_manifest
from tinynet.sources import Source


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    """A copy of the train split, to be damaged."""
    return Path(shutil.copytree(shards / "train", tmp_path / "train"))


def test_gather_gives_the_packed_pixels_in_the_asked_order(shards: Path, squares: Source) -> None:
    split = Split(shards / "train")
    originals = {picture.key: squares.read(picture) for picture in squares.splits["train"]}
    ids = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    for asked in (ids, ids.sort().values, ids[:1], ids.new_tensor([7, 7, 119, 0])):
        images = split.gather(asked)
        assert images.dtype == torch.uint8
        for image, sample in zip(images, asked.tolist(), strict=True):
            np.testing.assert_array_equal(image.numpy(), originals[split.key(sample)])


def test_gather_fills_the_buffer_that_it_is_given(shards: Path) -> None:
    split = Split(shards / "train")
    out = torch.zeros((3, 16, 16, 3), dtype=torch.uint8)
    ids = torch.tensor([10, 60, 110])
    assert split.read(ids, out) is out
    assert out.equal(split.gather(ids.flip(0)).flip(0))


def test_a_missing_split_names_the_pack_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"launch/pack\.py --source"):
        Split(tmp_path / "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-512]), "bytes, its manifest says"),
    ],
)
def test_a_damaged_shard_is_named_before_it_is_mapped(
    copied: Path, damage: object, message: str
) -> None:
    damage(copied / "train-000001.tar")  # type: ignore[operator]
    with pytest.raises(UserError, match=rf"train-000001\.tar .*{message}"):
        Split(copied)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format_version": 1', '"format_version": 99', "format version 99"),
        ('"encoding": "npy",', "", "damaged"),
        ("{", "", "damaged"),
    ],
)
def test_a_bad_manifest_is_said(copied: Path, old: str, new: str, message: str) -> None:
    path = copied / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_manifest(copied)


def test_the_manifest_survives_a_round_trip(shards: Path) -> None:
    manifest = read_manifest(shards / "train")
    assert manifest.to_json() == (shards / "train" / "manifest.json").read_text()
    assert manifest.samples == 120


@pytest.fixture(params=["npy", "jpg"])
def packed(request: pytest.FixtureRequest, squares: Source, tmp_path: Path) -> Path:
    """A train split of our own in either encoding, to be damaged."""
    pack(squares, tmp_path / "packed", lambda _: None, encoding=request.param)
    return tmp_path / "packed" / "train"


def edited(split: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    manifest = json.loads((split / "manifest.json").read_text())
    change(manifest)
    (split / "manifest.json").write_text(json.dumps(manifest))
    return split


def test_a_shard_shorter_than_its_manifest_says_is_named(packed: Path) -> None:
    shard = packed / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(UserError, match=r"train-000000.tar has .* bytes, its manifest says"):
        Split(packed)


def test_a_header_at_the_wrong_stride_is_named(packed: Path) -> None:
    shard = packed / "train-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[512:] + bytes(512))  # every member one block too early
    with pytest.raises(UserError, match=r"train-000000.tar has no \w+ picture where"):
        Split(packed)


def test_a_mixed_encoding_is_named(packed: Path) -> None:
    shard = packed / "train-000000.tar"
    data = shard.read_bytes()
    ours, theirs = (b".npy", b".jpg") if b".npy\0" in data else (b".jpg", b".npy")
    middle = len(data) // 2
    shard.write_bytes(data[:middle] + data[middle:].replace(ours + b"\0", theirs + b"\0"))
    with pytest.raises(UserError, match=f"has no {ours.decode()[1:]} picture.*{theirs.decode()}"):
        Split(packed)


def test_a_manifest_that_promises_too_much_is_refused(packed: Path) -> None:
    def one_more(manifest: dict[str, Any]) -> None:
        manifest["shards"][0]["samples"] += 1

    with pytest.raises(UserError, match=r"train-000000.tar cannot hold what its manifest says"):
        Split(edited(packed, one_more))


def test_an_unknown_encoding_is_refused(packed: Path) -> None:
    with pytest.raises(UserError, match="encoding webp, this tinynet reads npy and jpg"):
        Split(edited(packed, lambda manifest: manifest.update(encoding="webp")))


def test_ids_outside_of_the_split_are_refused(shards: Path) -> None:
    split = Split(shards / "train")
    for ids in ([-1, 3], [0, 120]):
        with pytest.raises(IndexError, match=r"0 … 119"):
            split.gather(torch.tensor(ids))


SIZES = (10_000, 1_000_000)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Splits of 64×64 pictures, by size; their shards are holes but for the headers looked at."""
    folders = {}
    stride = sample_stride((64, 64, 3))
    for samples in SIZES:
        folder = tmp_path_factory.mktemp(f"sparse-{samples}")
        size = samples * stride + 1024
        with (folder / "train-000000.tar").open("wb") as tar:
            tar.truncate(size)
            header = tar_headers(["x.npy"], [128 + 64 * 64 * 3])[0].tobytes()
            for part in range(PROBES):
                tar.seek(samples * part // PROBES * stride + 1024)
                tar.write(header)
        shard = Shard(
            name="train-000000.tar",
            samples=samples,
            bytes=size,
            sha256="",
            labels=[0] * samples,
            offsets=[],
            sizes=[],
        )
        manifest = Manifest(
            format_version=1,
            split="train",
            encoding="npy",
            image_shape=(64, 64, 3),
            class_ids=("a",),
            class_names=("a",),
            mean=(0.5, 0.5, 0.5),
            std=(0.2, 0.2, 0.2),
            source="holes",
            shards=(shard,),
        )
        (folder / "manifest.json").write_text(manifest.to_json())
        folders[samples] = folder
    return folders


def test_a_batch_of_a_million_pictures_costs_what_one_of_ten_thousand_does(
    sparse: dict[int, Path],
) -> None:
    fastest = {}
    for samples, folder in sparse.items():
        split = Split(folder)
        plan = Plan(seed=1, samples=samples, epochs=1, global_batch_size=64)
        out = torch.empty(64, 64, 64, 3, dtype=torch.uint8)
        times = []
        for _ in range(50):  # the same batch, so that both are in the page cache
            start = time.perf_counter()
            split.read(plan.share(3, 0).sample_ids.sort().values, out)
            times.append(time.perf_counter() - start)
        fastest[samples] = min(times)
    assert fastest[1_000_000] < 3 * fastest[10_000]


MEMORY = """
import sys, torch
from pathlib import Path
from tinynet.batches import View, training_batches
from tinynet.config import Augmentation
from tinynet.order import Plan
from tinynet.shards import Split

def memory(kind):
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind + ":")) * 1024

torch.set_num_threads(1)
split = Split(Path(sys.argv[1]))
view = View(mean=(0.5,) * 3, std=(0.2,) * 3, image_size=64, device=torch.device("cpu"))
plan = Plan(seed=1, samples=len(split), epochs=1, global_batch_size=256)
peak = []
for update, batch in enumerate(training_batches(split, plan, Augmentation(), view)):
    if update % 5 == 4:
        peak.append(memory("Anonymous"))
    if update == 34:
        break
batch_bytes = 256 * 64 * 64 * 3 * 4
print((peak[-1] - peak[0]) / batch_bytes, memory("Private_Dirty") / batch_bytes)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells the memory")
def test_memory_stays_at_a_few_batches(sparse: dict[int, Path]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(sparse[10_000])],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, _ = map(float, ran.stdout.split())
    assert grown < 3, "in batches of 256 float pictures (12.6 MB) after 30 more batches"


SHARED = """
import sys, torch
from pathlib import Path
from tinynet.shards import Split

split = Split(Path(sys.argv[1]))
for ids in torch.arange(len(split)).split(500):
    split.gather(ids)
print("read", flush=True)
sys.stdin.readline()
lines, own, inside = Path("/proc/self/smaps").read_text().splitlines(), 0, False
for line in lines:
    if not line[0].isupper():
        inside = line.endswith(".tar")
    elif inside and line.startswith(("Private_Clean", "Private_Dirty")):
        own += int(line.split()[1])
print(own)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells the memory")
def test_ranks_of_a_machine_share_one_copy_of_the_pixels(sparse: dict[int, Path]) -> None:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(sparse[10_000])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [rank.stdout.readline() for rank in ranks if rank.stdout] == ["read\n"] * 2
    own = [int(rank.communicate("\n")[0]) for rank in ranks[:1]]
    ranks[1].communicate("\n")
    assert own[0] < 5_000, "KiB of 143 MB that one rank has for itself"


def test_a_part_of_a_split_is_a_split(shards: Path) -> None:
    whole = Split(shards / "train")
    ids = torch.tensor([1, 49, 50, 51, 119])
    part = whole.part(ids)
    assert len(part) == 5
    assert part.labels.equal(whole.labels[ids])
    some = torch.tensor([4, 0, 2])
    assert part.gather(some).equal(whole.gather(ids[some]))
    assert part.key(3) == whole.key(51)
    part.reside(torch.device("cpu"))
    assert part.resident is not None
    assert part.resident.equal(whole.gather(ids))
    assert whole.resident is None
