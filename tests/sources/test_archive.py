import io
import os
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tinynet.errors import UserError
from tinynet.sources.archive import open_tree

FILES = {f"top/{i % 7}/{i}.bin": os.urandom(40) * (i % 90 + 1) for i in range(500)}


def write_zip(path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_whole_from_several_threads(tmp_path: Path, compression: int) -> None:
    tree = open_tree(write_zip(tmp_path / "t.zip", compression))
    assert tree.names == tuple(sorted(FILES))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tree.read, list(FILES) * 3)) == list(FILES.values()) * 3


def test_a_folder_gives_the_same_names_and_its_own_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(write_zip(tmp_path / "t.zip")) as archive:
        archive.extractall(tmp_path / "out")
    tree = open_tree(tmp_path / "out")
    assert [name for name in tree.names if not name.endswith("/")] == sorted(FILES)
    assert [name for name in tree.names if name.endswith("/")][:2] == ["top/", "top/0/"]
    assert all(tree.read(name) == data for name, data in FILES.items())


def test_a_relative_folder_and_linked_folders_are_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.txt").write_bytes(b"one")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "data")
    for path in (Path(), Path("../data"), tmp_path / "data"):
        assert open_tree(path).names == ("linked/", "linked/1.txt")


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1", "a/.DS_Store", "__MACOSX/a/._1", ".git/x", "a/._1"):
            archive.writestr(name, b"")
    assert open_tree(path).names == ("a/1",)


def test_the_file_is_closed_with_the_tree(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        open_tree(path)
    assert len(list(Path("/dev/fd").iterdir())) <= before + 1


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UserError, match="unsafe name"):
        open_tree(tmp_path / "t.zip")


def one_member(change: str) -> bytes:
    """A zip of one deflated member, with a lie in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(1_000_000))
    data = bytearray(buffer.getvalue())
    central = data.index(b"PK\1\2")
    if change == "larger than declared":
        struct.pack_into("<I", data, central + 24, 1000)
    elif change == "other checksum":
        struct.pack_into("<I", data, central + 16, 0)
    elif change == "encrypted":
        data[central + 8] |= 1
    elif change == "no header":
        data[0:4] = bytes(4)
    elif change == "bad deflate":
        data[34] ^= 0xFF
    elif change == "other method":
        struct.pack_into("<H", data, central + 10, 12)
    return bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("larger than declared", "not of the declared 1,000 bytes"),
        ("other checksum", "CRC differs"),
        ("encrypted", "encrypted"),
        ("no header", "header is not where"),
        ("bad deflate", "damaged"),
        ("other method", "compressed in a way"),
    ],
)
def test_lies_inside_are_errors_of_that_member(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "t.zip").write_bytes(one_member(change))
    with pytest.raises(ValueError, match=f"bomb in .*{message}"):
        open_tree(tmp_path / "t.zip").read("bomb")


def test_a_zip_cut_while_open_is_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "t.zip")
    tree = open_tree(path)
    os.truncate(path, 100)
    with pytest.raises(ValueError, match="damaged"):
        tree.read("top/0/490.bin")


def test_what_is_no_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_tree(tmp_path / "nothing")
    (tmp_path / "half.zip").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match="not a whole zip file"):
        open_tree(tmp_path / "half.zip")


def test_an_unreadable_text_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match=r"words\.txt in .* cannot be read"):
        open_tree(tmp_path).text("words.txt")
