import shutil
import zipfile
from pathlib import Path

import pytest

from tinynet.errors import UserError
from tinynet.sources import Picture, Source
from tinynet.sources.sample import CLASSES, write_sample
from tinynet.sources.tiny_imagenet import count_findings, tiny_imagenet


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("drawn") / "sample", 3, 2)


@pytest.fixture
def copied(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "tiny-imagenet-200"))


def zipped(folder: Path, to: Path) -> Path:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return to


def contents(source: Source) -> dict[str, list[tuple[str, int, bytes]]]:
    return {
        split: [(p.key, p.label, bytes(source.read(p))) for p in pictures]
        for split, pictures in source.splits.items()
    }


def test_folder_zip_and_parent_folder_are_the_same(copied: Path, tmp_path: Path) -> None:
    folder, parent = tiny_imagenet(copied), tiny_imagenet(copied.parent)
    archive = tiny_imagenet(zipped(copied, tmp_path / "t.zip"))
    assert contents(folder) == contents(archive) == contents(parent)
    assert folder.class_names == tuple(CLASSES)
    assert {split: len(p) for split, p in folder.splits.items()} == {"train": 30, "val": 20}
    assert folder.findings == ()


def test_val_labels_come_from_the_annotations(copied: Path) -> None:
    source = tiny_imagenet(copied)
    for line in (copied / "val/val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        (picture,) = [p for p in source.splits["val"] if str(p.where).endswith(f"/{file}")]
        assert source.class_ids[picture.label] == wnid


def test_a_flat_val_without_annotations_is_the_classic_accident(copied: Path) -> None:
    (copied / "val/val_annotations.txt").unlink()
    with pytest.raises(UserError, match=r"flat val folder without val/val_annotations.txt.*0\.5 %"):
        tiny_imagenet(copied)


def test_val_sorted_into_class_folders_is_taken(copied: Path) -> None:
    before = {(p.key, p.label) for p in tiny_imagenet(copied).splits["val"]}
    for line in (copied / "val/val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        (copied / "val" / wnid / "images").mkdir(parents=True, exist_ok=True)
        (copied / "val/images" / file).rename(copied / "val" / wnid / "images" / file)
    source = tiny_imagenet(copied)
    assert {(p.key, p.label) for p in source.splits["val"]} == before
    assert "sorted into class folders" in source.findings[0]


def test_odd_class_counts_are_named(copied: Path) -> None:
    next((copied / "train/n90000004/images").iterdir()).unlink()
    (finding,) = tiny_imagenet(copied).findings
    assert "train: n90000004 has 2 pictures, where most classes have 3" in finding


def test_val_pictures_without_a_label_are_left_out_and_missing_ones_refused(copied: Path) -> None:
    path = copied / "val/val_annotations.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    source = tiny_imagenet(copied)
    assert len(source.splits["val"]) == 19
    assert "val: 1 pictures are not in val/val_annotations.txt" in source.findings[0]
    assert "val/images/val_0.JPEG" in source.findings[0]
    path.write_text("".join(lines).replace("val_3.JPEG", "val_99.JPEG"))
    with pytest.raises(UserError, match=r"names 1 missing pictures \(val_99\.JPEG\)"):
        tiny_imagenet(copied)
    path.write_text("".join(lines).replace("n90000001", "n12345678"))
    with pytest.raises(
        UserError, match=r"line 1: val_0.* 'n12345678', which wnids.txt does not list"
    ):
        tiny_imagenet(copied)


def test_what_is_not_tiny_imagenet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist"):
        tiny_imagenet(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no wnids\.txt"):
        tiny_imagenet(tmp_path)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(UserError, match=r"not a whole zip file"):
        tiny_imagenet(tmp_path / "bad.zip")


def test_names_that_lead_out_of_the_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("wnids.txt", "n1")
        archive.writestr("train/../../evil.JPEG", "x")
    with pytest.raises(UserError, match=r"unsafe name"):
        tiny_imagenet(tmp_path / "t.zip")


def test_a_damaged_member_is_an_error_of_that_picture(copied: Path, tmp_path: Path) -> None:
    path = zipped(copied, tmp_path / "t.zip")
    source = tiny_imagenet(path)
    picture = source.splits["train"][5]
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo(str(picture.where)).header_offset + 200
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{picture.where} in .* is damaged"):
        source.read(picture)


def test_two_hundred_classes_are_compared_with_the_official_counts() -> None:
    wnids = [f"n{i:08}" for i in range(200)]
    pictures = [Picture(f"{i}", i % 200, "") for i in range(200 * 50)]
    assert count_findings("val", pictures, wnids) == []
    (finding,) = count_findings("train", pictures, wnids)
    assert "50 pictures per class, where the official data set has 500" in finding
    odd, total = count_findings("train", pictures[200:-7], wnids)
    assert "n00000193 has 48, n00000194 has 48" in odd
    assert "and 2 more pictures, where most classes have 49" in odd
    assert "49 pictures per class" in total


def test_class_names_are_first_words_made_unique(copied: Path) -> None:
    lines = [
        "n90000001\tcrane, hoist\n",
        "n90000002\tcrane\n",
        "n90000003\n",
        "n90000004\t\n",
        "n90000005\tking penguin, Aptenodytes\n",
        "n00000000\tunused\n",
    ]
    (copied / "words.txt").write_text("".join(lines))
    names = tiny_imagenet(copied).class_names
    assert names[:2] == ("crane (n90000001)", "crane (n90000002)")
    assert names[2:6] == ("n90000003", "n90000004", "king penguin", "n90000006")
    (copied / "words.txt").unlink()
    assert tiny_imagenet(copied).class_names[0] == "n90000001"


def test_labels_follow_sorted_wnids_whatever_the_file_says(copied: Path) -> None:
    before = tiny_imagenet(copied)
    wnids = (copied / "wnids.txt").read_text().split()
    (copied / "wnids.txt").write_text("\r\n".join(reversed(wnids)))
    assert tiny_imagenet(copied).class_ids == before.class_ids == tuple(sorted(wnids))
    assert tiny_imagenet(copied).splits == before.splits


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_said(copied: Path, split: str) -> None:
    for path in copied.glob(f"{split}/**/*.JPEG"):
        path.unlink()
    (copied / "val/val_annotations.txt").write_text("")
    message = "no pictures in train/" if split == "train" else "no pictures in val/"
    if split == "train":
        (copied / "val/images").rename(copied / "val/n90000001")
    with pytest.raises(UserError, match=message):
        tiny_imagenet(copied)


def test_a_picture_of_an_unknown_class_is_named(copied: Path) -> None:
    wnids = (copied / "wnids.txt").read_text().split()
    (copied / "wnids.txt").write_text("\n".join(wnids[:-1]))
    with pytest.raises(UserError, match=r"n90000010, which|'n90000010'|n90000010_0\.JPEG"):
        tiny_imagenet(copied)
    (copied / "val/val_annotations.txt").unlink()
    (copied / "val/images").rename(copied / "val/n90000001")
    with pytest.raises(UserError, match=r"n90000010_0\.JPEG in .* lies in no folder of a class"):
        tiny_imagenet(copied)


def test_a_picture_with_two_classes_is_refused(copied: Path) -> None:
    with (copied / "val/val_annotations.txt").open("a") as file:
        file.write("\nval_0.JPEG\tn90000002\t0\t0\t1\t1\n")
    with pytest.raises(UserError, match=r"line 22: val_0\.JPEG has two classes"):
        tiny_imagenet(copied)


@pytest.mark.real_data
def test_the_real_zip_is_whole(real_zip: Path) -> None:
    source = tiny_imagenet(real_zip)
    assert len(source.class_ids) == len(set(source.class_names)) == 200
    assert len(source.splits["val"]) == 10_000
    assert len(source.splits["train"]) % 200 == 0
    assert source.class_names[source.class_ids.index("n01443537")] == "goldfish"
    assert bytes(source.read(source.splits["val"][0]))[:2] == b"\xff\xd8"
