"""The bytes of a shard: where in a tar a sample, its label and its pixels lie."""

import io
import tarfile
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

TAR_BLOCK = 512
"""A tar header takes one block; contents are padded to whole ones."""

NPY_HEADER = 128
"""What ``numpy.save`` writes before the pixels."""

PIXELS_AT = 3 * TAR_BLOCK + NPY_HEADER
"""Where in an npy sample its pixels begin: byte 1,664."""


def sample_stride(image_shape: tuple[int, int, int]) -> int:
    """Bytes from one npy sample to the next: 14,336 for 64×64×3."""
    height, width, channels = image_shape
    pixels = NPY_HEADER + height * width * channels
    return 3 * TAR_BLOCK + -(-pixels // TAR_BLOCK) * TAR_BLOCK


_EMPTY = tarfile.TarInfo()
_EMPTY.mode = 0o444
_TEMPLATE = np.frombuffer(_EMPTY.tobuf(tarfile.USTAR_FORMAT), np.uint8)
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 135), slice(148, 154)


def tar_headers(names: Sequence[str], sizes: ArrayLike) -> np.ndarray:
    """The ustar headers of files: names (n,) of ASCII, sizes in bytes (n,) → uint8 (n, 512).

    No owner, no time: the bytes must not change. ``tarfile`` makes the same in ten times the time.
    """
    headers = np.tile(_TEMPLATE, (len(names), 1))
    headers[:, _NAME] = fixed_width(names, 100)
    headers[:, _SIZE] = _octal(np.asarray(sizes, np.int64), 11)
    # The sum of all bytes, the eight of the checksum taken for blanks; one of them is a zero.
    headers[:, _CHECKSUM] = ord(" ")
    headers[:, _CHECKSUM] = _octal(headers.sum(1, dtype=np.int64) + ord(" "), 6)
    return headers


def _octal(values: np.ndarray, digits: int) -> np.ndarray:
    """Numbers (n,), or one for all, as ASCII digits, uint8 (n or 1, digits)."""
    places = 3 * np.arange(digits - 1, -1, -1)
    return ((values.reshape(-1, 1) >> places) & 7) + ord("0")


def fixed_width(words: Sequence[str], width: int) -> np.ndarray:
    """ASCII words (n,) as uint8 (n, width), filled up with zeros."""
    return np.array(words, dtype=f"S{width}").view(np.uint8).reshape(-1, width)


@cache
def npy_header(image_shape: tuple[int, int, int]) -> bytes:
    """The 128 bytes before the pixels of a uint8 ``.npy`` file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.zeros(image_shape, np.uint8), version=(1, 0))
    return buffer.getvalue()[:NPY_HEADER]
