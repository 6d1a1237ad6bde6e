import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tinynet.errors import UserError
from tinynet.shards import Split, read_manifest
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
    assert split.gather(ids, out) is out
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
