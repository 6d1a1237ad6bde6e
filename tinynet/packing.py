"""Pictures to shards: shuffled once, the same bytes every time, whole or not at all."""

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinynet.chunks import Chunk, Format, prepare
from tinynet.errors import UserError
from tinynet.files import flush, write_whole
from tinynet.layout import TAR_BLOCK
from tinynet.pictures import decode
from tinynet.shards import FORMAT_VERSION, MANIFEST, Encoding, Manifest, Shard
from tinynet.sources import Picture, Source

SHUFFLE_SEED = 20260101
"""The one order in which a split is packed; training shuffles again, differently every epoch."""

CHUNK = 128


@dataclass
class Tally:
    """What was met on the way."""

    grey: int = 0
    reencoded: int = 0
    unreadable: list[str] = field(default_factory=list)
    keys: dict[str, dict[bytes, str]] = field(default_factory=dict)
    """By split: content hash → key of the picture."""


def pack(
    source: Source,
    out: Path,
    progress: Callable[[int], None],
    *,
    encoding: Encoding = "npy",
    image_size: int | None = None,
    samples_per_shard: int = 16_384,
) -> list[str]:
    """Pack every split of ``source`` into ``out/SPLIT``; returns one-line findings for the user.

    ``image_size`` None keeps the pictures' own size, which must be the same for all. ``progress``
    is told the number of pictures just packed. The data set is written to a folder beside ``out``
    and renamed when it is whole; an interrupted pack leaves nothing that looks complete and may
    be run again. Raises ``UserError`` if ``out`` is in use or a picture cannot be packed.
    """
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: choose another --out, or delete it to pack again")
    form = Format(
        encoding=encoding,
        image_shape=_image_shape(source, image_size),
        resize=image_size is not None,
        samples_per_shard=samples_per_shard,
    )
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    tally = Tally()
    try:
        for split in source.splits:
            (aside / split).mkdir(parents=True)
            manifest = _pack_split(source, split, form, aside / split, tally, progress)
            write_whole(aside / split / MANIFEST, manifest.to_json())
        flush(aside)
        aside.rename(out)
        flush(out.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [*source.findings, *_findings(tally)]


def _pack_split(
    source: Source,
    split: str,
    form: Format,
    folder: Path,
    tally: Tally,
    progress: Callable[[int], None],
) -> Manifest:
    pictures = source.splits[split]
    order = np.random.Generator(np.random.PCG64(SHUFFLE_SEED)).permutation(len(pictures))
    keys = tally.keys.setdefault(split, {})
    moments = np.zeros((2, form.image_shape[2]), np.uint64)
    shards: list[Shard] = []
    for first in range(0, len(order), form.samples_per_shard):
        part = [pictures[i] for i in order[first : first + form.samples_per_shard]]
        with ShardWriter(folder, f"{split}-{len(shards):06d}.tar") as writer:
            for chunk in _read_all(source, part, form):
                writer.write(chunk)
                keys.update(
                    (content, picture.key)
                    for content, picture in zip(chunk.contents, chunk.pictures, strict=True)
                    if content not in keys
                )
                tally.grey += chunk.grey
                tally.reencoded += chunk.reencoded
                tally.unreadable += chunk.unreadable
                moments += chunk.moments
                progress(len(chunk.pictures))
            shards.append(writer.finish())
    if tally.unreadable:
        some = "; ".join(tally.unreadable[:10])
        raise UserError(
            f"{len(tally.unreadable)} pictures cannot be read: {some}. Restore these files or "
            "remove them, then pack again (nothing was written)"
        )
    height, width, _ = form.image_shape
    mean, mean_square = moments / (height * width * sum(shard.samples for shard in shards))
    std = np.sqrt(np.maximum(mean_square - np.square(mean), 0))
    return Manifest(
        format_version=FORMAT_VERSION,
        split=split,
        encoding=form.encoding,
        image_shape=form.image_shape,
        class_ids=source.class_ids,
        class_names=source.class_names,
        mean=tuple((mean / 255).round(6).tolist()),
        std=tuple((std / 255).round(6).tolist()),
        source=source.description,
        shards=tuple(shards),
    )


def _read_all(source: Source, pictures: Sequence[Picture], form: Format) -> Iterator[Chunk]:
    """Read and decode in threads, in order, a few chunks ahead of the writer."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Future[Chunk]] = deque()
        for first in range(0, len(pictures), CHUNK):
            ahead.append(pool.submit(prepare, source, pictures[first : first + CHUNK], form))
            if len(ahead) > 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class ShardWriter:
    """Writes one tar and remembers what the manifest must say of it; closes it on leaving."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.labels: list[int] = []
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self._file = (folder / name).open("wb")

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, chunk: Chunk) -> None:
        """Append the members of some samples."""
        self._offsets += [self._bytes + offset for offset in chunk.offsets]
        self._sizes += chunk.sizes
        self.labels += [picture.label for picture in chunk.pictures]
        self._append(chunk.data)

    def finish(self) -> Shard:
        """End the tar, put it on the disk, and describe it."""
        self._append(bytes(2 * TAR_BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())
        return Shard(
            name=self.name,
            samples=len(self.labels),
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            labels=self.labels,
            offsets=self._offsets,
            sizes=self._sizes,
        )

    def _append(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self._bytes += memoryview(data).nbytes


def _image_shape(source: Source, image_size: int | None) -> tuple[int, int, int]:
    """The shape of all samples: RGB unless the source itself gives grey arrays."""
    first = next((pictures[0] for pictures in source.splits.values() if pictures), None)
    if first is None:
        raise UserError(f"{source.description} holds no pictures: check --path")
    try:
        content = source.read(first)
        pixels = decode(content) if isinstance(content, bytes) else content
    except (OSError, ValueError) as error:
        raise UserError(f"{first.where} cannot be read ({error}): restore or remove it") from None
    channels = 3 if isinstance(content, bytes) else pixels.shape[2]
    height, width = (image_size, image_size) if image_size else pixels.shape[:2]
    if height != width:
        raise UserError(f"{first.where} is {width}×{height}, not square: give --image-size")
    return height, width, channels


def _findings(tally: Tally) -> list[str]:
    findings = []
    if tally.grey:
        findings.append(f"{tally.grey} grey pictures were converted to RGB")
    if tally.reencoded:
        findings.append(f"{tally.reencoded} pictures were re-encoded as JPEG, quality 95")
    train, val = tally.keys.get("train", {}), tally.keys.get("val", {})
    doubles = sorted((val[content], train[content]) for content in val.keys() & train.keys())
    if doubles:
        some = ", ".join(f"{in_val} = {in_train}" for in_val, in_train in doubles[:5])
        findings.append(
            f"{len(doubles)} pictures of val are also in train ({some}{', …' * (len(doubles) > 5)})"
            ": val accuracy flatters; remove them from one of the two"
        )
    return findings
