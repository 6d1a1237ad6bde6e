"""Anybody's pictures: one folder per class."""

import hashlib
import re
from collections import Counter
from pathlib import Path

from tinynet.errors import UserError
from tinynet.sources.source import Picture, Source
from tinynet.sources.tiny_imagenet import count_findings

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"}
VAL_NAMES = ("val", "valid", "validation", "test")
KEY_LENGTH = 90


def image_folder(path: Path) -> Source:
    """Read ``path/train/CLASS/…`` and ``path/val/CLASS/…``, or only ``path/CLASS/…``.

    Without a val folder, a tenth of the pictures, chosen by a hash of their names, becomes val.
    Raises ``UserError`` if there are no class folders, or if train and val differ in classes.
    """
    if not path.is_dir():
        raise UserError(f"--path {path} is not a folder: give the folder of the class folders")
    val_folder = next((path / name for name in VAL_NAMES if (path / name).is_dir()), None)
    findings: list[str] = []
    if (path / "train").is_dir() and val_folder is not None:
        train_files, val_files = _files(path / "train"), _files(val_folder)
        if train_files.keys() != val_files.keys():
            odd = sorted(train_files.keys() ^ val_files.keys())
            raise UserError(
                f"{path / 'train'} and {val_folder} have different classes ({', '.join(odd[:5])}): "
                "both need a folder with pictures for every class"
            )
    else:
        everything = _files(path)
        train_files = {
            name: [f for f in files if not _is_val(f, path)] for name, files in everything.items()
        }
        val_files = {
            name: [f for f in files if _is_val(f, path)] for name, files in everything.items()
        }
        findings.append(f"{path} has no train and val folders: a tenth of the pictures became val")
    class_ids = sorted(train_files)
    splits = {
        "train": _pictures(train_files, class_ids),
        "val": _pictures(val_files, class_ids),
    }
    for split, pictures in splits.items():
        findings += count_findings(split, pictures, class_ids)
    return Source(
        description=f"folder {path.name}",
        class_ids=tuple(class_ids),
        class_names=tuple(class_ids),
        splits=splits,
        read=lambda picture: Path(str(picture.where)).read_bytes(),
        findings=tuple(findings),
    )


def _files(folder: Path) -> dict[str, list[Path]]:
    """Class → its pictures, sorted; hidden files are passed over."""
    classes: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if len(parts) > 1 and not hidden and file.suffix.lower() in SUFFIXES:
            classes.setdefault(parts[0], []).append(file)
    if not classes:
        raise UserError(f"{folder} has no class folders with pictures in them: check --path")
    return classes


def _is_val(file: Path, root: Path) -> bool:
    name = file.relative_to(root).as_posix().encode()
    return hashlib.blake2b(name, digest_size=8).digest()[0] % 10 == 0


def _pictures(files: dict[str, list[Path]], class_ids: list[str]) -> tuple[Picture, ...]:
    """Give every picture a key that tars and webdataset can take, and no two the same."""
    pictures = []
    taken: Counter[str] = Counter()
    for label, class_id in enumerate(class_ids):
        for file in files[class_id]:
            key = re.sub(r"[^A-Za-z0-9_-]", "_", f"{class_id}_{file.stem}")[: KEY_LENGTH - 8]
            taken[key] += 1
            if taken[key] > 1:
                # "~" occurs in no cleaned name, so this cannot meet another key.
                key = f"{key}~{taken[key]}"
            pictures.append(Picture(key, label, str(file)))
    return tuple(pictures)
