"""Tiny ImageNet as Stanford packs it: 200 classes, 64x64 JPEGs, in a zip or unpacked.

``wnids.txt`` and ``words.txt`` name the classes, ``train/WNID/images/`` holds 500 pictures each,
``val/images/`` holds 10,000 pictures of all classes, labelled by ``val/val_annotations.txt``.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tinynet.errors import UserError
from tinynet.sources.archive import Tree, open_tree
from tinynet.sources.download import download
from tinynet.sources.source import Picture, Source, pictures_of

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
SUFFIXES = (".jpeg", ".jpg", ".png")
OFFICIAL_CLASSES = 200
OFFICIAL_PER_CLASS = {"train": 500, "val": 50}


def fetch_tiny_imagenet(cache: Path, url: str | None = None) -> Path:
    """Download the official zip into ``cache`` (or take it from there); returns its path.

    ``url`` is a mirror of the same file. Raises ``UserError`` as ``download`` does.
    """
    return download(url or URL, cache / "tiny-imagenet-200.zip", MD5)


def tiny_imagenet(path: Path) -> Source:
    """Read the official layout. Classes are in the order of their sorted WordNet ids.

    ``path`` is the zip, the unpacked folder, or a folder that holds it. Raises ``UserError`` if
    the layout is another one or pictures of val have no labels.
    """
    tree = open_tree(path)
    root = _root(tree)
    wnids = sorted(set(tree.text(f"{root}wnids.txt").split()))
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    val, remarks = _val(tree, f"{root}val/", labels)
    splits = {"train": _in_class_folders(tree, f"{root}train/", labels), "val": val}
    for split, pictures in splits.items():
        if not pictures:
            raise UserError(f"{path} has no pictures in {root}{split}/: get the whole data set")
        remarks += count_findings(split, pictures, wnids)
    return Source(
        description=f"Tiny ImageNet ({path.name})",
        class_ids=tuple(wnids),
        class_names=_class_names(tree, root, wnids),
        splits=splits,
        read=lambda picture: tree.read(str(picture.where)),
        findings=tuple(remarks),
    )


def count_findings(split: str, pictures: Sequence[Picture], class_ids: Sequence[str]) -> list[str]:
    """Name the classes that do not have as many pictures as most of the others.

    Of 200 classes, say also if that usual number is not the official one.
    """
    counts = Counter(picture.label for picture in pictures)
    usual = Counter(counts[label] for label in range(len(class_ids))).most_common(1)[0][0]
    odd = [
        f"{class_id} has {counts[label]}"
        for label, class_id in enumerate(class_ids)
        if counts[label] != usual
    ]
    findings = []
    if odd:
        findings.append(
            f"{split}: {_some(odd)} pictures, where most classes have {usual}: restore the missing "
            "or remove the surplus, unless it is meant so"
        )
    official = OFFICIAL_PER_CLASS[split]
    if len(class_ids) == OFFICIAL_CLASSES and usual != official:
        findings.append(
            f"{split}: {usual} pictures per class, where the official data set has {official}: get "
            "the official zip before comparing with published results"
        )
    return findings


def _root(tree: Tree) -> str:
    """The folder of ``wnids.txt`` inside the tree: the tree itself or one folder down."""
    for name in tree.names:
        if name == "wnids.txt" or (name.endswith("/wnids.txt") and name.count("/") == 1):
            return name.removesuffix("wnids.txt")
    raise UserError(
        f"{tree.where} is not Tiny ImageNet (no wnids.txt): give tiny-imagenet-200.zip or its "
        "unpacked folder, or use --source image-folder for class folders"
    )


def _class_names(tree: Tree, root: str, wnids: list[str]) -> tuple[str, ...]:
    """The first of the words of each class, with its id where two classes share it."""
    words: dict[str, str] = {}
    if f"{root}words.txt" in tree.names:
        lines = tree.text(f"{root}words.txt").splitlines()
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    names = [words.get(wnid, "").split(",")[0].strip() or wnid for wnid in wnids]
    shared = Counter(names)
    return tuple(
        f"{name} ({wnid})" if shared[name] > 1 else name
        for name, wnid in zip(names, wnids, strict=True)
    )


def _in_class_folders(tree: Tree, root: str, labels: dict[str, int]) -> tuple[Picture, ...]:
    """Pictures of ``ROOT/WNID/images/`` or of ``ROOT/WNID/``."""
    files = _pictures_below(tree, root)
    for file in files:
        if _folder(file, root) not in labels:
            raise UserError(
                f"{file} in {tree.where} lies in no folder of a class of wnids.txt: put it into "
                "one or remove it"
            )
    return pictures_of((_stem(file), labels[_folder(file, root)], file) for file in files)


def _val(tree: Tree, root: str, labels: dict[str, int]) -> tuple[tuple[Picture, ...], list[str]]:
    """Pictures of the flat val folder with its annotations, or of val sorted into classes."""
    files = _pictures_below(tree, root)
    if all(_folder(file, root) in labels for file in files):
        sorted_val = "val is sorted into class folders, not as published: taken as it is"
        return _in_class_folders(tree, root, labels), [sorted_val] if files else []
    annotations = f"{root}val_annotations.txt"
    if annotations not in tree.names:
        raise UserError(
            f"{tree.where} has a flat val folder without {annotations}, so its pictures have no "
            "labels (read as one class they give 0.5 % accuracy): get the file from the official "
            "zip, or sort val into class folders"
        )
    wnids = _annotations(tree, annotations, labels)
    unlabelled = [file for file in files if _file_name(file) not in wnids]
    missing = sorted(wnids.keys() - {_file_name(file) for file in files})
    if missing:
        raise UserError(
            f"{annotations} in {tree.where} names {len(missing)} missing pictures "
            f"({_some(missing)}): get the whole data set"
        )
    remarks = [
        f"val: {len(unlabelled)} pictures are not in {annotations} and were left out "
        f"({_some(unlabelled)}): get the whole file"
    ]
    pictures = pictures_of(
        (_stem(file), labels[wnids[_file_name(file)]], file)
        for file in files
        if _file_name(file) in wnids
    )
    return pictures, remarks if unlabelled else []


def _annotations(tree: Tree, name: str, labels: dict[str, int]) -> dict[str, str]:
    """File name → wnid, of lines ``val_0.JPEG<tab>n03444034<tab>0<tab>32<tab>44<tab>62``."""
    wnids: dict[str, str] = {}
    for number, line in enumerate(tree.text(name).splitlines(), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0].strip()
        if not line.strip():
            continue
        if wnid not in labels:
            raise UserError(
                f"{name} in {tree.where}, line {number}: {file} has the class {wnid!r}, which "
                "wnids.txt does not list: get both files again"
            )
        if wnids.setdefault(file, wnid) != wnid:
            raise UserError(
                f"{name} in {tree.where}, line {number}: {file} has two classes, "
                f"{wnids[file]} and {wnid}: get the file again"
            )
    return wnids


def _pictures_below(tree: Tree, root: str) -> list[str]:
    return [n for n in tree.names if n.startswith(root) and n.lower().endswith(SUFFIXES)]


def _folder(file: str, root: str) -> str:
    """The first folder below ``root``; empty for a file right in it."""
    return file[len(root) :].rpartition("/")[0].partition("/")[0]


def _file_name(file: str) -> str:
    return file[file.rfind("/") + 1 :]


def _stem(file: str) -> str:
    return file[file.rfind("/") + 1 : file.rfind(".")]


def _some(things: list[str]) -> str:
    """The first five by name, the others by number."""
    more = f" and {len(things) - 5} more" if len(things) > 5 else ""
    return ", ".join(things[:5]) + more
