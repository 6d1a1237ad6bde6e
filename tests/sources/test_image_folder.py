import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.errors import UserError
from tinynet.packing import pack
from tinynet.shards import Encoding, Split
from tinynet.sources.image_folder import image_folder


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def touch(folder: Path, *names: str) -> None:
    """Files that are listed and not read."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("encoding", ["npy", "jpg"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_pictures_of_any_format_and_depth_are_packed(
    tmp_path: Path, encoding: Encoding, val: str
) -> None:
    for split in ("train", val):
        for suffix, mode in [("png", "RGBA"), ("bmp", "RGB"), ("webp", "RGB"), ("GIF", "P")]:
            save(tmp_path / "in" / split / "cat" / f"1.{suffix}", mode)
        for suffix, mode in [("jpg", "CMYK"), ("tif", "L"), ("ppm", "RGB"), ("JPEG", "L")]:
            save(tmp_path / "in" / split / "dog" / "deep" / f"1.{suffix}", mode)
        touch(tmp_path / "in" / split / "cat", ".hidden.png", "notes.txt")
        touch(tmp_path / "in" / split, "stray.png")
    source = image_folder(tmp_path / "in")
    assert source.class_ids == ("cat", "dog")
    assert source.findings == ()
    pack(source, tmp_path / "out", lambda _: None, encoding=encoding, image_size=8)
    for split in ("train", "val"):
        packed = Split(tmp_path / "out" / split)
        assert packed.labels.bincount().tolist() == [4, 4]
        assert packed.gather(packed.labels.new_tensor(range(8))).shape == (8, 8, 8, 3)


def test_without_val_a_tenth_of_each_class_is_set_apart(tmp_path: Path) -> None:
    touch(tmp_path / "a", *(f"cat/{i}.png" for i in range(60)), "bee/1.png")
    touch(tmp_path / "a", *(f"dog/x/{i}.png" for i in range(5)))
    source = image_folder(tmp_path / "a")
    counts = {
        split: np.bincount([p.label for p in pictures], minlength=3).tolist()
        for split, pictures in source.splits.items()
    }
    assert counts == {"train": [1, 54, 4], "val": [0, 6, 1]}
    assert "a tenth of each class became val" in source.findings[0]
    chosen = [p.key for p in source.splits["val"]]
    assert chosen != [f"cat/{i}" for i in range(6)]
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "train")
    assert [p.key for p in image_folder(tmp_path / "b").splits["val"]] == chosen


def test_a_zip_will_do_for_a_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / "pets" / split, "cat/1.png", "dog/2.png")
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path, "pets")
    assert image_folder(Path(archive)).class_ids == ("cat", "dog")


def test_names_that_clash_when_cleaned_stay_apart(tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / split / "cat", "a b.png", "a_b.png", "a.b.png", "a_b.jpg", "x/a_b.jpg")
    keys = [picture.key for picture in image_folder(tmp_path).splits["train"]]
    assert len(set(keys)) == 5
    assert all("." not in key and " " not in key for key in keys)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        touch(tmp_path / split, "cat/1.png", "dog/1.png")
    (tmp_path / "train" / "empty").mkdir()
    findings = image_folder(tmp_path).findings
    assert f"{tmp_path / 'train' / 'empty'} holds no pictures" in findings[0]
    assert findings[1] == f"{tmp_path / 'test'} was not used"


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class folders"):
        image_folder(tmp_path)
    touch(tmp_path, "train/cat/1.png", "train/cow/1.png", "val/dog/1.png", "val/cow/1.png")
    with pytest.raises(UserError, match=r"different classes \(cat, dog\)"):
        image_folder(tmp_path)
    shutil.move(tmp_path / "val", tmp_path / "more")
    with pytest.raises(UserError, match="has train beside other folders"):
        image_folder(tmp_path)
    shutil.move(tmp_path / "train", tmp_path / "test")
    with pytest.raises(UserError, match="has test beside other folders"):
        image_folder(tmp_path)
