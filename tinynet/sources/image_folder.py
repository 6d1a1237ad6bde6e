"""Anybody's pictures: one folder per class."""

import hashlib
from pathlib import Path

from tinynet.errors import UserError
from tinynet.sources.archive import Tree, open_tree
from tinynet.sources.source import Picture, Source, pictures_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")
VAL_NAMES = ("val", "valid", "validation", "test")

Classes = dict[str, list[str]]
"""Class → names of its files, both sorted."""


def image_folder(path: Path) -> Source:
    """Read ``path/train/CLASS/…`` and ``path/val/CLASS/…``, or only ``path/CLASS/…``.

    ``val`` may also be called ``valid``, ``validation`` or ``test``. Without it, a tenth of each
    class, chosen by a hash of the pictures' names, becomes val. A zip will do for a folder.
    Raises ``UserError`` if there are no class folders, or if train and val differ in classes.
    """
    tree = open_tree(path)
    root = _root(tree)
    tops = _folders(tree, root)
    val_names = [name for name in VAL_NAMES if name in tops]
    if "train" in tops and val_names:
        train, findings = _classes(tree, f"{root}train/")
        val, more = _classes(tree, f"{root}{val_names[0]}/")
        findings += more
        findings += [f"{path / root / name} was not used" for name in val_names[1:]]
        if odd := sorted(train.keys() ^ val.keys()):
            raise UserError(
                f"{path / root}: train and {val_names[0]} have different classes "
                f"({', '.join(odd[:5])}): both need a folder with pictures for every class"
            )
    elif "train" in tops or val_names:
        raise UserError(
            f"{path / root} has {' and '.join(['train'] * ('train' in tops) + val_names)} beside "
            "other folders: give both train and val, or nothing but class folders"
        )
    else:
        everything, findings = _classes(tree, root)
        train, val = _split(everything, root)
        findings.append(
            f"{path / root} has no train and val folders: a tenth of each class became val"
        )
    class_ids = tuple(train)
    return Source(
        description=f"folder {path.name}",
        class_ids=class_ids,
        class_names=class_ids,
        splits={"train": _pictures(train, root), "val": _pictures(val, root)},
        read=lambda picture: tree.read(str(picture.where)),
        findings=tuple(findings),
    )


def _root(tree: Tree) -> str:
    """Go down while there is only one folder: a single class is none."""
    root = ""
    while len(tops := _folders(tree, root)) == 1 and _folders(tree, f"{root}{tops[0]}/"):
        root += f"{tops[0]}/"
    return root


def _folders(tree: Tree, root: str) -> list[str]:
    """Names of the folders right below ``root``."""
    below = (name[len(root) :] for name in tree.names if name.startswith(root))
    return sorted({name.split("/")[0] for name in below if "/" in name})


def _classes(tree: Tree, root: str) -> tuple[Classes, list[str]]:
    """The pictures of every class, at any depth, and the folders without any."""
    classes: Classes = {name: [] for name in _folders(tree, root)}
    for name in tree.names:
        below = name[len(root) :]
        if name.startswith(root) and "/" in below and name.lower().endswith(SUFFIXES):
            classes[below.split("/")[0]].append(name)
    full = {name: files for name, files in classes.items() if files}
    if not full:
        raise UserError(
            f"{tree.where / root} has no class folders with pictures in them: check --path"
        )
    empty = [
        f"{tree.where / root / name} holds no pictures and is not a class: fill or remove it"
        for name in classes
        if name not in full
    ]
    return full, empty


def _split(classes: Classes, root: str) -> tuple[Classes, Classes]:
    """Choose a tenth of each class, at least one, for val, unless it is the only one."""
    train: Classes = {}
    val: Classes = {}
    for name, files in classes.items():
        count = max(1, len(files) // 10) if len(files) > 1 else 0
        chosen = set(sorted(files, key=lambda file: _hash(file[len(root) :]))[:count])
        train[name] = [file for file in files if file not in chosen]
        val[name] = [file for file in files if file in chosen]
    return train, val


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()


def _pictures(classes: Classes, root: str) -> tuple[Picture, ...]:
    """Keys are the path below the root, which tells classes and subfolders apart."""
    return pictures_of(
        (name[len(root) :].rpartition(".")[0], label, name)
        for label, files in enumerate(classes.values())
        for name in files
    )
