import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from tinynet.doctor import verify
from tinynet.errors import UserError
from tinynet.packing import pack
from tinynet.shards import Split
from tinynet.sources import Picture, Source


def quiet(_: int) -> None:
    pass


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def jpegs(squares: Source) -> Source:
    """The same source, giving JPEG bytes."""
    return replace(squares, read=lambda picture: jpeg(np.asarray(squares.read(picture))))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("encoding", ["npy", "jpg"])
def test_every_picture_is_packed_once_with_its_label(
    squares: Source, tmp_path: Path, encoding: str
) -> None:
    source = jpegs(squares)
    pack(source, tmp_path / "out", quiet, encoding=encoding, samples_per_shard=50)  # type: ignore[arg-type]
    split = Split(tmp_path / "out" / "train")
    assert [shard.samples for shard in split.manifest.shards] == [50, 50, 20]
    labels = {picture.key: picture.label for picture in source.splits["train"]}
    packed = {split.key(i): int(split.labels[i]) for i in range(len(split))}
    assert packed == labels
    assert list(packed) != list(labels), "samples must be shuffled"


def test_same_input_gives_the_same_bytes(squares: Source, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack(squares, tmp_path / name, quiet, samples_per_shard=50)
    first = files(tmp_path / "a")
    assert len(first) == 6
    assert first == files(tmp_path / "b")


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("encoding", ["npy", "jpg"])
def test_stock_webdataset_reads_the_shards(squares: Source, tmp_path: Path, encoding: str) -> None:
    source = jpegs(squares)
    pack(source, tmp_path / "out", quiet, encoding=encoding, samples_per_shard=50)  # type: ignore[arg-type]
    folder = tmp_path / "out" / "val"
    split = Split(folder)
    urls = [str(folder / shard.name) for shard in split.manifest.shards]
    decode = () if encoding == "npy" else ("rgb8",)
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode(*decode))
    assert len(samples) == len(split) == 37
    for index, sample in enumerate(samples):
        assert sample["__key__"] == split.key(index)
        assert sample["cls"] == split.labels[index]
        ours = split.gather(split.labels.new_tensor([index]))[0].numpy()
        if encoding == "npy":
            np.testing.assert_array_equal(sample["npy"], ours)
        else:  # webdataset decodes with PIL, whose libjpeg may round differently
            assert np.abs(sample["jpg"].astype(int) - ours).max() <= 2


def test_both_encodings_give_identical_pixels_labels_and_order(
    squares: Source, tmp_path: Path
) -> None:
    source = jpegs(squares)
    for encoding in ("npy", "jpg"):
        pack(source, tmp_path / encoding, quiet, encoding=encoding, samples_per_shard=50)  # type: ignore[arg-type]
    npy, jpg = (Split(tmp_path / encoding / "train") for encoding in ("npy", "jpg"))
    ids = npy.labels.new_tensor([119, 3, 50, 49, 0])
    assert npy.labels.equal(jpg.labels)
    assert npy.gather(ids).equal(jpg.gather(ids))


def test_jpg_keeps_the_original_bytes(squares: Source, tmp_path: Path) -> None:
    source = jpegs(squares)
    pack(source, tmp_path / "out", quiet, encoding="jpg")
    originals = {picture.key: source.read(picture) for picture in source.splits["val"]}
    with tarfile.open(tmp_path / "out/val/val-000000.tar") as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                file = tar.extractfile(member)
                assert file is not None
                assert file.read() == originals[member.name[:-4]]


def test_mean_and_std_are_those_of_the_pixels(squares: Source, tmp_path: Path) -> None:
    pack(squares, tmp_path / "out", quiet)
    manifest = json.loads((tmp_path / "out/train/manifest.json").read_text())
    pixels = np.stack([np.asarray(squares.read(p)) for p in squares.splits["train"]]) / 255
    np.testing.assert_allclose(manifest["mean"], pixels.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(manifest["std"], pixels.std((0, 1, 2)), atol=1e-6)


def test_an_interrupted_pack_leaves_nothing_and_can_be_rerun(
    squares: Source, tmp_path: Path
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(squares, tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == []
    pack(squares, tmp_path / "out", quiet)
    assert verify(tmp_path / "out") == []


def test_a_killed_pack_is_not_taken_for_whole(squares: Source, tmp_path: Path) -> None:
    (tmp_path / ".out.partial" / "train").mkdir(parents=True)
    (tmp_path / ".out.partial" / "train" / "train-000000.tar").write_bytes(b"half")
    pack(squares, tmp_path / "out", quiet)
    assert verify(tmp_path / "out") == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_packed_folder_is_not_overwritten(squares: Source, shards: Path) -> None:
    before = files(shards)
    with pytest.raises(UserError, match="not empty"):
        pack(squares, shards, quiet)
    assert files(shards) == before


def test_unreadable_pictures_are_all_named(squares: Source, tmp_path: Path) -> None:
    broken = {"train/5", "val/7"}

    def read(picture: Picture) -> bytes | np.ndarray:
        return b"no picture" if picture.where in broken else squares.read(picture)

    with pytest.raises(UserError, match=r"1 pictures cannot be read: train/5"):
        pack(replace(squares, read=read), tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()


def test_grey_pictures_are_converted_and_counted(squares: Source, tmp_path: Path) -> None:
    def read(picture: Picture) -> bytes | np.ndarray:
        pixels = np.asarray(squares.read(picture))
        return jpeg(pixels[:, :, 0] if picture.where == "train/5" else pixels)

    findings = pack(replace(squares, read=read), tmp_path / "out", quiet)
    assert findings == ["1 grey pictures were converted to RGB"]
    split = Split(tmp_path / "out/train")
    index = [split.key(i) for i in range(len(split))].index("train_5")
    grey = split.gather(split.labels.new_tensor([index]))[0]
    assert grey[..., 0].equal(grey[..., 1])
    assert grey[..., 0].equal(grey[..., 2])


def test_val_pictures_that_are_in_train_are_named(squares: Source, tmp_path: Path) -> None:
    first = squares.splits["train"][0]

    def read(picture: Picture) -> bytes | np.ndarray:
        return squares.read(first if picture.where == "val/3" else picture)

    (finding,) = pack(replace(squares, read=read), tmp_path / "out", quiet)
    assert "1 pictures of val are also in train (val_3 = train_0)" in finding


def test_pictures_of_other_sizes_need_image_size(squares: Source, tmp_path: Path) -> None:
    def read(picture: Picture) -> bytes | np.ndarray:
        pixels = np.asarray(squares.read(picture))
        return pixels[:, :12] if picture.where == "train/5" else pixels

    source = replace(squares, read=read)
    with pytest.raises(UserError, match="give --image-size"):
        pack(source, tmp_path / "out", quiet)
    pack(source, tmp_path / "out", quiet, image_size=8)
    assert Split(tmp_path / "out/train").manifest.image_shape == (8, 8, 3)


def test_an_empty_source_is_refused(squares: Source, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pictures"):
        pack(replace(squares, splits={"train": (), "val": ()}), tmp_path / "out", quiet)
