import sys
from pathlib import Path

import numpy as np
import pytest

from tinynet.errors import UserError
from tinynet.sources import open_source
from tinynet.sources.sample import CLASSES, draw, sample, sample_folder, write_sample

# The package calls the function of the same name "sample", which hides the module.
MODULE = sys.modules["tinynet.sources.sample"]


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_the_same_pictures_are_drawn_every_time(tmp_path: Path) -> None:
    drawn = [files(write_sample(tmp_path / name, 2, 1)) for name in "ab"]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 10 * 3 + 3
    assert len(set(drawn[0].values())) == len(drawn[0])


def test_more_pictures_leave_the_others_as_they_are(tmp_path: Path) -> None:
    few, more = files(write_sample(tmp_path / "few", 1, 1)), files(write_sample(tmp_path / "m", 2))
    assert all(more[name] == data for name, data in few.items() if name.startswith("train/"))


def test_it_has_the_official_layout(tmp_path: Path) -> None:
    names = set(files(write_sample(tmp_path / "sample", 1, 2)))
    assert names >= {"wnids.txt", "words.txt", "val/val_annotations.txt", "val/images/val_19.JPEG"}
    assert "train/n90000001/images/n90000001_0.JPEG" in names


def test_pictures_are_64_pixels_of_colour() -> None:
    for label in range(len(CLASSES)):
        pixels = np.asarray(draw(label, 0))
        assert pixels.shape == (64, 64, 3)
        assert pixels.std() > 20
        assert np.abs(np.diff(pixels.astype(int), axis=2)).mean() > 5


def test_the_mean_colour_says_nothing_about_the_class() -> None:
    means = np.array([[np.asarray(draw(c, i)).mean((0, 1)) for i in range(30)] for c in range(10)])
    between, within = means.mean(1).std(0), means.std(1).mean(0)
    # The mean of 30 varies by within / sqrt(30) even when the class says nothing.
    assert (between < 2 * within / np.sqrt(30)).all()


def test_it_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(sample_folder(tmp_path), 1, 1)
    monkeypatch.setattr(MODULE, "draw", None)
    source = open_source("sample", None, tmp_path)
    assert source.description == "the built-in sample"
    assert source.class_names == tuple(CLASSES)
    assert len(source.splits["train"]) == len(source.splits["val"]) == 10
    assert source.findings == ()


def test_an_interrupted_drawing_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_late(label: int, number: int) -> object:
        if label == 2:
            raise KeyboardInterrupt
        return draw(label, number)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MODULE, "draw", fail_late)
        write_sample(tmp_path / "s", 1, 1)
    assert not (tmp_path / "s").exists()
    write_sample(tmp_path / "s", 1, 1)
    assert len(sample(tmp_path / "s").splits["train"]) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is there already"):
        write_sample(tmp_path, 1, 1)
    with pytest.raises(UserError, match=r"no wnids\.txt"):
        sample(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
