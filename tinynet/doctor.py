"""Is a packed data set what its manifests say? Checks of every byte, count and label."""

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tinynet.errors import UserError
from tinynet.shards import MANIFEST, Manifest, Shard, read_manifest


def splits_of(folder: Path) -> list[Path]:
    """The splits of a packed data set: subfolders with a manifest, train first.

    Raises ``UserError`` if there are none.
    """
    splits = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    if not splits:
        raise UserError(
            f"{folder} holds no packed data set (no */{MANIFEST}): make one with "
            f"`python launch/pack.py --source tiny-imagenet --path ZIP --out {folder}`"
        )
    return sorted(splits, key=lambda path: path.name != "train")


def verify(folder: Path, progress: Callable[[int], None] = lambda _: None) -> list[str]:
    """Everything that is wrong with a packed data set, one line each; empty if it is sound.

    ``progress`` is told the bytes just read.
    """
    problems: list[str] = []
    classes: dict[str, tuple[str, ...]] = {}
    for split in splits_of(folder):
        try:
            manifest = read_manifest(split)
        except UserError as error:
            problems.append(str(error))
            continue
        classes[split.name] = manifest.class_ids
        problems += _check_split(split, manifest, progress)
    if len(set(classes.values())) > 1:
        problems.append(f"{folder}: the splits {', '.join(classes)} have different classes")
    return problems


def _check_split(split: Path, manifest: Manifest, progress: Callable[[int], None]) -> Iterator[str]:
    if manifest.split != split.name:
        yield f"{split / MANIFEST} is of the split {manifest.split}: it is in the wrong folder"
    named = {shard.name for shard in manifest.shards}
    for path in sorted(split.glob("*.tar")):
        if path.name not in named:
            yield f"{path} is not in the manifest: remove it"
    for shard in manifest.shards:
        path = split / shard.name
        if not path.is_file():
            yield f"{path} is missing: copy it back or pack again"
        elif _sha256(path, progress) != shard.sha256:
            size = path.stat().st_size
            yield (
                f"{path} is damaged (sha256 differs; {size:,} bytes, the manifest says "
                f"{shard.bytes:,}): copy it again or pack again"
            )
        else:
            yield from _check_shard(path, shard, manifest)
    counts = Counter(label for shard in manifest.shards for label in shard.labels)
    for label, class_id in enumerate(manifest.class_ids):
        if not counts[label]:
            yield f"{split}: class {class_id} ({manifest.class_names[label]}) has no samples"


def _check_shard(path: Path, shard: Shard, manifest: Manifest) -> Iterator[str]:
    """Compare the tar's members with the manifest: names, labels, counts."""
    labels: dict[str, int] = {}
    pictures = []
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, suffix = member.name.rpartition(".")
            if suffix == "cls":
                file = tar.extractfile(member)
                labels[key] = int(file.read()) if file else -1
            else:
                pictures.append((key, suffix))
    if len(pictures) != shard.samples or len(shard.labels) != shard.samples:
        yield f"{path} holds {len(pictures)} samples, its manifest says {shard.samples}"
    if {suffix for _, suffix in pictures} > {manifest.encoding}:
        yield f"{path} mixes encodings, its manifest says {manifest.encoding}"
    if len(set(pictures)) < len(pictures):
        yield f"{path} holds two samples of the same name"
    for (key, _), label in zip(pictures, shard.labels, strict=False):
        if labels.get(key) != label:
            yield f"{path}: {key} has label {labels.get(key)}, the manifest says {label}"
        elif not 0 <= label < len(manifest.class_ids):
            yield f"{path}: {key} has label {label}, there are {len(manifest.class_ids)} classes"


def _sha256(path: Path, progress: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
