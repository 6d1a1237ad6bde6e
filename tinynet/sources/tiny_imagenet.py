"""Tiny ImageNet as Stanford packs it: 200 classes, 64x64 JPEGs, in a zip or unpacked.

``wnids.txt`` and ``words.txt`` name the classes, ``train/WNID/images/`` holds 500 pictures each,
``val/images/`` holds 10,000 pictures of all classes, labelled by ``val/val_annotations.txt``.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tinynet.errors import UserError
from tinynet.sources.archive import Tree, open_tree
from tinynet.sources.download import download
from tinynet.sources.source import Picture, Source

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
SUFFIXES = {".jpeg", ".jpg", ".png"}


def fetch_tiny_imagenet(cache: Path, url: str | None) -> Path:
    """Download the official zip into ``cache`` (or take it from there); returns its path."""
    return download(url or URL, cache / "tiny-imagenet-200.zip", MD5)


def tiny_imagenet(path: Path) -> Source:
    """Read the official layout. Classes are in the order of their sorted WordNet ids.

    Raises ``UserError`` if the layout is another one or val has no labels.
    """
    tree = open_tree(path)
    root = _root(tree)
    names = [name for name in tree.names if name.startswith(root)]
    wnids = sorted(tree.read(f"{root}wnids.txt").decode().split())
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    train = _train(names, f"{root}train/", labels)
    val, remarks = _val(tree, names, f"{root}val/", labels)
    if not train or not val:
        empty = "val" if train else "train"
        raise UserError(f"{path} has no pictures in {root}{empty}/: get the whole data set")
    return Source(
        description=f"Tiny ImageNet ({path.name})",
        class_ids=tuple(wnids),
        class_names=_class_names(tree, root, wnids),
        splits={"train": tuple(train), "val": tuple(val)},
        read=lambda picture: tree.read(str(picture.where)),
        findings=(
            *remarks,
            *count_findings("train", train, wnids),
            *count_findings("val", val, wnids),
        ),
    )


def count_findings(split: str, pictures: Iterable[Picture], class_ids: list[str]) -> list[str]:
    """Name the classes that do not have as many pictures as most of the others."""
    counts = Counter(picture.label for picture in pictures)
    usual = Counter(counts[label] for label in range(len(class_ids))).most_common(1)[0][0]
    odd = [
        f"{class_id} has {counts[label]}"
        for label, class_id in enumerate(class_ids)
        if counts[label] != usual
    ]
    if not odd:
        return []
    more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
    return [
        f"{split}: {', '.join(odd[:5])}{more}, where most classes have {usual} pictures: "
        "is the data set whole?"
    ]


def _root(tree: Tree) -> str:
    """The folder of ``wnids.txt`` inside the tree: the tree itself or one folder down."""
    for name in tree.names:
        place = PurePosixPath(name)
        if place.name == "wnids.txt" and len(place.parts) <= 2:
            return "" if len(place.parts) == 1 else f"{place.parts[0]}/"
    raise UserError(
        f"{tree.where} is not Tiny ImageNet (no wnids.txt): give tiny-imagenet-200.zip or its "
        "unpacked folder, or use --source image-folder for class folders"
    )


def _class_names(tree: Tree, root: str, wnids: list[str]) -> tuple[str, ...]:
    """The first of the words of each class, with its id where two classes share it."""
    words: dict[str, str] = {}
    if f"{root}words.txt" in tree.names:
        for line in tree.read(f"{root}words.txt").decode().splitlines():
            wnid, _, synonyms = line.partition("\t")
            words[wnid] = synonyms.split(",")[0].strip()
    names = [words.get(wnid) or wnid for wnid in wnids]
    shared = Counter(names)
    return tuple(
        f"{name} ({wnid})" if shared[name] > 1 else name
        for name, wnid in zip(names, wnids, strict=True)
    )


def _train(names: list[str], root: str, labels: dict[str, int]) -> list[Picture]:
    """Pictures of ``train/WNID/images/`` (or of ``train/WNID/``)."""
    pictures = []
    for name in names:
        place = PurePosixPath(name)
        if name.startswith(root) and place.suffix.lower() in SUFFIXES:
            wnid = name[len(root) :].split("/")[0]
            if wnid not in labels:
                raise UserError(f"{name} is of the class {wnid}, which wnids.txt does not list")
            pictures.append(Picture(_key(place), labels[wnid], name))
    return pictures


def _val(
    tree: Tree, names: list[str], root: str, labels: dict[str, int]
) -> tuple[list[Picture], list[str]]:
    """Pictures of the flat val folder with its annotations, or of val sorted into classes."""
    places = [PurePosixPath(name) for name in names if name.startswith(root)]
    pictures = [place for place in places if place.suffix.lower() in SUFFIXES]
    depth = root.count("/")
    if pictures and all(place.parts[depth] in labels for place in pictures):
        sorted_val = [Picture(_key(p), labels[p.parts[depth]], str(p)) for p in pictures]
        return sorted_val, ["val is sorted into class folders, not as published; taken as it is"]
    annotations = f"{root}val_annotations.txt"
    if annotations not in names:
        raise UserError(
            f"{tree.where} has a flat val folder without {annotations}: its pictures have no "
            "labels (read as one class they give 0.5 % accuracy); get the file from the official "
            "zip, or sort val into class folders"
        )
    wnids = {}
    for line in tree.read(annotations).decode().splitlines():
        file, wnid = line.split("\t")[:2]
        if wnid not in labels:
            raise UserError(f"{annotations} names the class {wnid}, which wnids.txt does not list")
        wnids[file] = wnid
    unlabelled = [place.name for place in pictures if place.name not in wnids]
    missing = sorted(wnids.keys() - {place.name for place in pictures})
    if missing:
        raise UserError(
            f"{annotations} names {len(missing)} pictures that are not there ({missing[0]}, …): "
            "get the whole data set"
        )
    remarks = []
    if unlabelled:
        remarks.append(
            f"{len(unlabelled)} val pictures are not in {annotations} ({unlabelled[0]}, …) and "
            "were left out"
        )
    labelled = [
        Picture(_key(place), labels[wnids[place.name]], str(place))
        for place in pictures
        if place.name in wnids
    ]
    return labelled, remarks


def _key(place: PurePosixPath) -> str:
    return place.stem.replace(".", "_")
