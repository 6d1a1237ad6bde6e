"""Some pictures at a time: read, decoded, and laid out as the tar members that a shard holds."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from tinynet.layout import (
    PIXELS_AT,
    TAR_BLOCK,
    fixed_width,
    npy_header,
    sample_stride,
    tar_headers,
)
from tinynet.pictures import JPEG_MAGIC, decode_into, encode_jpeg
from tinynet.shards import Encoding
from tinynet.sources import Picture, Source


@dataclass(frozen=True, kw_only=True)
class Format:
    """How samples are written: ``image_shape`` is (height, width, channels)."""

    encoding: Encoding
    image_shape: tuple[int, int, int]
    resize: bool
    samples_per_shard: int


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Pictures ready to be written.

    ``data`` are the tar members of all; ``offsets`` and ``sizes`` place the jpg contents in it.
    ``contents`` are hashes of the source's bytes; ``moments`` (2, C) the sums of pixel values and
    of their squares; ``unreadable`` says what was left out, and why.
    """

    pictures: list[Picture]
    data: bytes | memoryview
    offsets: list[int]
    sizes: list[int]
    contents: list[bytes]
    moments: np.ndarray
    grey: int
    reencoded: int
    unreadable: list[str]


def prepare(source: Source, pictures: Sequence[Picture], form: Format) -> Chunk:
    """Read some pictures and lay out their tar members.

    npy pictures are decoded to where they stay: into a block of samples, all of the same size.
    """
    size = form.image_shape[:2]
    pixels_end = PIXELS_AT + math.prod(form.image_shape)
    block = np.zeros((len(pictures), sample_stride(form.image_shape)), np.uint8)
    readable: list[Picture] = []
    contents: list[bytes] = []
    jpegs: list[bytes] = []
    unreadable = []
    grey = reencoded = 0
    for picture in pictures:
        pixels = block[len(readable), PIXELS_AT:pixels_end].reshape(form.image_shape)
        try:
            content = source.read(picture)
            found = decode_into(content, pixels, form.resize)
        except (OSError, ValueError) as error:
            unreadable.append(f"{picture.where} ({error})")
            continue
        raw = content if isinstance(content, bytes) else content.tobytes()
        if form.encoding == "jpg":
            keep = raw.startswith(JPEG_MAGIC) and found[:2] == size
            jpegs.append(raw if keep else encode_jpeg(pixels))
            reencoded += not keep
        grey += found[2] < form.image_shape[2]
        readable.append(picture)
        contents.append(hashlib.blake2b(raw, digest_size=16).digest())
    block = block[: len(readable)]
    moments = _moments(block[:, PIXELS_AT:pixels_end], form.image_shape)
    labels = [str(picture.label) for picture in readable]
    heads = np.zeros((len(readable), 3 * TAR_BLOCK), np.uint8)
    heads[:, :TAR_BLOCK] = tar_headers(
        [f"{picture.key}.cls" for picture in readable], [len(label) for label in labels]
    )
    heads[:, TAR_BLOCK : 2 * TAR_BLOCK] = fixed_width(labels, TAR_BLOCK)
    heads[:, 2 * TAR_BLOCK :] = tar_headers(
        [f"{picture.key}.{form.encoding}" for picture in readable],
        [len(jpeg) for jpeg in jpegs] or [pixels_end - 3 * TAR_BLOCK],
    )
    block[:, : 3 * TAR_BLOCK] = heads
    block[:, 3 * TAR_BLOCK : PIXELS_AT] = np.frombuffer(npy_header(form.image_shape), np.uint8)
    padded = [jpeg + bytes(-len(jpeg) % TAR_BLOCK) for jpeg in jpegs]
    ends = accumulate(len(jpeg) + 3 * TAR_BLOCK for jpeg in padded)
    return Chunk(
        pictures=readable,
        data=block.data if form.encoding == "npy" else _interleaved(heads, padded),
        offsets=[end - len(jpeg) for end, jpeg in zip(ends, padded, strict=False)],
        sizes=[len(jpeg) for jpeg in jpegs],
        contents=contents,
        moments=moments,
        grey=grey,
        reencoded=reencoded,
        unreadable=unreadable,
    )


def _interleaved(heads: np.ndarray, padded: list[bytes]) -> bytes:
    return b"".join(
        part for head, jpeg in zip(heads, padded, strict=True) for part in (head.data, jpeg)
    )


def _moments(pixels: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (n, H·W·C) → uint64 (2, C): exact sums of the values and of their squares.

    A few pictures at a time, which stay in the processor's cache.
    """
    height, width, channels = image_shape
    sums = np.zeros((2, width * channels), np.uint64)
    for first in range(0, len(pixels), 16):
        rows = pixels[first : first + 16].reshape(-1, height, width * channels).astype(np.uint32)
        sums[0] += rows.sum(1, dtype=np.uint32).sum(0)
        sums[1] += np.square(rows, out=rows).sum(1, dtype=np.uint32).sum(0)
    return sums.reshape(2, width, channels).sum(1)
