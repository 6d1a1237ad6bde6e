"""MNIST and its relatives: arrays in idx files, four of them per data set."""

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinynet.errors import UserError
from tinynet.sources.source import Picture, Source

PREFIXES = {"train": "train", "val": "t10k"}
SIZE = 28
DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(path: Path) -> Source:
    """The handwritten digits: (28, 28, 1), 60,000 train, 10,000 val (the published test set).

    ``path`` holds the four idx files, or ``raw/`` or ``MNIST/raw/`` with them, plain or gzipped.
    Raises ``UserError`` naming the file that is missing, damaged, or disagrees with its pair.
    """
    return _read_idx(path, "MNIST", DIGITS)


def fashion_mnist(path: Path) -> Source:
    """Zalando's pieces of clothing, in MNIST's format; folders are called ``FashionMNIST``."""
    return _read_idx(path, "FashionMNIST", FASHION)


def fetch_mnist(cache: Path) -> Path:
    """Download MNIST through torchvision into ``cache``; returns the folder of its idx files."""
    from torchvision.datasets import MNIST

    return _fetch(cache, "MNIST", lambda: MNIST(str(cache), download=True))


def fetch_fashion_mnist(cache: Path) -> Path:
    """Download Fashion-MNIST through torchvision into ``cache``; returns its folder."""
    from torchvision.datasets import FashionMNIST

    return _fetch(cache, "FashionMNIST", lambda: FashionMNIST(str(cache), download=True))


def _read_idx(path: Path, name: str, class_names: tuple[str, ...]) -> Source:
    if not path.exists():
        raise UserError(f"--path {path} does not exist: give the folder of {name}'s idx files")
    pixels: dict[str, np.ndarray] = {}
    splits: dict[str, tuple[Picture, ...]] = {}
    for split, prefix in PREFIXES.items():
        images_file = _find(path, name, f"{prefix}-images", "idx3-ubyte")
        labels_file = _find(path, name, f"{prefix}-labels", "idx1-ubyte")
        images, labels = _array(images_file, 3), _array(labels_file, 1)
        if images.shape[1:] != (SIZE, SIZE) or not len(images):
            raise UserError(
                f"{images_file} holds an array of {'×'.join(map(str, images.shape))}, not pictures "
                f"of {SIZE}×{SIZE}: get {name}'s own file"
            )
        if len(images) != len(labels):
            raise UserError(
                f"{images_file} holds {len(images)} pictures but {labels_file} {len(labels)} "
                "labels: get both again"
            )
        if labels.max() >= len(class_names):
            raise UserError(
                f"{labels_file} has label {labels.max()}, and {name} has 0 to "
                f"{len(class_names) - 1}: get {name}'s own file"
            )
        pixels[split] = images[..., None]
        splits[split] = tuple(
            Picture(f"{split}_{i}", label, f"{split}/{i}")
            for i, label in enumerate(labels.tolist())
        )

    def read(picture: Picture) -> np.ndarray:
        split, index = str(picture.where).split("/")
        return pixels[split][int(index)]

    return Source(
        description=name,
        class_ids=DIGITS,
        class_names=class_names,
        splits=splits,
        read=read,
    )


def _find(path: Path, name: str, stem: str, suffix: str) -> Path:
    """``stem-suffix`` or ``stem.suffix``, maybe with ``.gz``, where people keep it.

    Not anywhere below ``path``: beside MNIST may lie Fashion-MNIST, whose files have its names.
    """
    for folder in (path, path / "raw", path / name / "raw", path / name):
        for file in (f"{stem}-{suffix}", f"{stem}.{suffix}"):
            for ending in ("", ".gz"):
                if (folder / f"{file}{ending}").is_file():
                    return folder / f"{file}{ending}"
    raise UserError(
        f"{path} holds no {stem}-{suffix} or {stem}-{suffix}.gz (nor do raw/ and {name}/raw/ in "
        f"it): give --path the folder of {name}'s idx files"
    )


def _array(file: Path, axes: int) -> np.ndarray:
    """Read an idx file of bytes: magic 0, 0, 8, axes; the sizes, big-endian; the values."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read ({error}): get it again") from None
    start = 4 + 4 * axes
    if data[:4] != bytes((0, 0, 8, axes)) or len(data) < start:
        raise UserError(f"{file} is not an idx file of bytes with {axes} axes: get it again")
    shape = np.frombuffer(data, ">u4", axes, 4).tolist()
    if len(data) - start != math.prod(shape):
        raise UserError(
            f"{file} holds {len(data) - start:,} bytes of values, its head says "
            f"{math.prod(shape):,}: get it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _fetch(cache: Path, name: str, fetch: Callable[[], object]) -> Path:
    try:
        fetch()
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{name} could not be downloaded ({reason}): download its idx files elsewhere and give "
            "their folder with --path FOLDER"
        ) from None
    return cache / name / "raw"
