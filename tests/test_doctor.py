import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tinynet.doctor import splits_of, verify
from tinynet.errors import UserError


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "copied"))


def test_a_sound_data_set_has_no_problems(shards: Path) -> None:
    read: list[int] = []
    assert verify(shards, read.append) == []
    assert sum(read) == sum(path.stat().st_size for path in shards.rglob("*.tar"))
    assert [path.name for path in splits_of(shards)] == ["train", "val"]


def test_one_flipped_bit_is_found(copied: Path) -> None:
    path = copied / "train/train-000001.tar"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    (problem,) = verify(copied)
    assert "train-000001.tar is damaged (sha256 differs" in problem


def test_missing_and_foreign_shards_are_named(copied: Path) -> None:
    (copied / "train/train-000001.tar").rename(copied / "train/other.tar")
    problems = verify(copied)
    assert len(problems) == 2
    assert "other.tar is not in the manifest" in problems[0]
    assert "train-000001.tar is missing" in problems[1]


def test_a_wrong_label_is_found_even_if_the_hash_is_right(copied: Path) -> None:
    path, manifest_path = copied / "val/val-000000.tar", copied / "val/manifest.json"
    manifest = json.loads(manifest_path.read_text())
    data = bytearray(path.read_bytes())
    data[512:513] = b"9"
    path.write_bytes(data)
    manifest["shards"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    manifest_path.write_text(json.dumps(manifest))
    (problem,) = verify(copied)
    assert "has label 9, the manifest says" in problem


def test_a_swapped_split_is_found(copied: Path) -> None:
    shutil.rmtree(copied / "val")
    shutil.copytree(copied / "train", copied / "val")
    assert any("wrong folder" in problem for problem in verify(copied))


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no packed data set"):
        verify(tmp_path)
