"""The two nouns that all data sets share."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

MAX_KEY = 90
UNSAFE_IN_KEYS = re.compile(r"[^A-Za-z0-9_/-]")


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture of a source, not yet read.

    ``key`` is unique within its split and becomes the sample's name in the tar: ASCII letters,
    digits, ``_``, ``-`` and ``/`` only, at most 90 characters, no dot (webdataset splits there).
    ``where`` is what ``Source.read`` needs to find it (a path, a zip member, an index) and what
    messages to people call it.
    """

    key: str
    label: int
    where: str | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data set before packing.

    ``class_ids`` in label order (sorted, as ``torchvision.datasets.ImageFolder`` orders them) and
    ``class_names`` beside them; ``splits`` by name (``train``, ``val``); ``read`` gives either the
    encoded picture (bytes of a JPEG, PNG…) or a uint8 array (H, W, C), may be called from
    several threads, and raises ``OSError`` or ``ValueError`` for a picture it cannot read.
    ``findings`` are one-line remarks for the user: what looks odd, in which file, what to do.
    """

    description: str
    class_ids: tuple[str, ...]
    class_names: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]
    read: Callable[[Picture], bytes | np.ndarray]
    findings: tuple[str, ...] = ()


def pictures_of(files: Iterable[tuple[str, int, str]]) -> tuple[Picture, ...]:
    """Make the pictures of a split from (name, label, where): names become clean, unique keys.

    Names that clean to the same key are numbered in the order given.
    """
    pictures = []
    taken: set[str] = set()
    copies: Counter[str] = Counter()
    for name, label, where in files:
        clean = UNSAFE_IN_KEYS.sub("_", name)
        if len(clean) > MAX_KEY:
            # The end of a long path tells pictures apart, its beginning seldom does.
            clean = clean[10 - MAX_KEY :].lstrip("/")
        key = clean
        while key in taken:
            copies[clean] += 1
            key = f"{clean[: MAX_KEY - 10]}_{copies[clean] + 1}"
        taken.add(key)
        pictures.append(Picture(key, label, where))
    return tuple(pictures)
