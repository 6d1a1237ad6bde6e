"""MNIST and its relatives: arrays in idx files, four of them per data set."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinynet.errors import UserError
from tinynet.sources.source import Picture, Source

FILES = {"train": "train", "val": "t10k"}
DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(path: Path) -> Source:
    """The handwritten digits: 28x28 grey, 60,000 train and 10,000 val (the published test set)."""
    return read_idx(path, "MNIST", DIGITS)


def fashion_mnist(path: Path) -> Source:
    """Zalando's pieces of clothing, in MNIST's format."""
    return read_idx(path, "Fashion-MNIST", FASHION)


def fetch_mnist(cache: Path) -> Path:
    """Download MNIST through torchvision into ``cache``; returns the folder of its idx files."""
    from torchvision.datasets import MNIST

    return _fetch(cache, "MNIST", lambda: MNIST(str(cache), download=True))


def fetch_fashion_mnist(cache: Path) -> Path:
    """Download Fashion-MNIST through torchvision into ``cache``; returns its folder."""
    from torchvision.datasets import FashionMNIST

    return _fetch(cache, "FashionMNIST", lambda: FashionMNIST(str(cache), download=True))


def read_idx(path: Path, description: str, class_names: tuple[str, ...]) -> Source:
    """Read the four idx files below ``path``, plain or gzipped, as (28, 28, 1) pictures.

    Raises ``UserError`` naming the file that is missing, damaged, or disagrees with its pair.
    """
    pixels: dict[str, np.ndarray] = {}
    splits: dict[str, tuple[Picture, ...]] = {}
    for split, prefix in FILES.items():
        images_file = _find(path, f"{prefix}-images", "idx3-ubyte")
        labels_file = _find(path, f"{prefix}-labels", "idx1-ubyte")
        images, labels = _array(images_file, 3), _array(labels_file, 1)
        if len(images) != len(labels):
            raise UserError(
                f"{images_file} holds {len(images)} pictures but {labels_file} {len(labels)} "
                "labels: get both again"
            )
        if len(labels) and labels.max() >= len(class_names):
            raise UserError(f"{labels_file} has label {labels.max()}, more than {description} has")
        pixels[split] = images[..., None]
        splits[split] = tuple(
            Picture(f"{split}_{i}", label, f"{split}/{i}")
            for i, label in enumerate(labels.tolist())
        )

    def read(picture: Picture) -> np.ndarray:
        split, index = str(picture.where).split("/")
        return pixels[split][int(index)]

    return Source(
        description=description,
        class_ids=DIGITS,
        class_names=class_names,
        splits=splits,
        read=read,
    )


def _find(path: Path, stem: str, suffix: str) -> Path:
    """``stem-suffix`` or ``stem.suffix``, maybe with ``.gz``, anywhere below ``path``."""
    for joint in "-.":
        for ending in ("", ".gz"):
            found = sorted(path.rglob(f"{stem}{joint}{suffix}{ending}"))
            if found:
                return found[0]
    raise UserError(
        f"{path} holds no {stem}-{suffix}(.gz): give --path the folder of the idx files"
    )


def _array(file: Path, axes: int) -> np.ndarray:
    """Read an idx file of bytes: magic 0, 0, 8, axes; the sizes, big-endian; the values."""
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError) as error:
        raise UserError(f"{file} cannot be read ({error}): get it again") from None
    if data[:4] != bytes((0, 0, 8, axes)):
        raise UserError(f"{file} is not an idx file of bytes with {axes} axes: get it again")
    shape = np.frombuffer(data, ">i4", axes, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if len(values) != shape.prod():
        raise UserError(
            f"{file} is cut off ({len(values):,} of {shape.prod():,} bytes): get it again"
        )
    return values.reshape(shape)


def _fetch(cache: Path, name: str, fetch: Callable[[], object]) -> Path:
    try:
        fetch()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{name} could not be downloaded ({error}): download its idx files elsewhere and give "
            "their folder with --path"
        ) from None
    return cache / name / "raw"
