"""Shared by all tests: tiny packed data sets, made once."""

import os
from pathlib import Path

import numpy as np
import pytest

from tinynet.packing import pack
from tinynet.sources import Picture, Source

ROOT = Path(__file__).parents[1]
REAL_ZIP = Path(
    os.environ.get("TINYNET_REAL_DATA", ROOT.parent / "shared/data/tiny-imagenet-200.zip")
)


@pytest.fixture(scope="session")
def real_zip() -> Path:
    """The real Tiny ImageNet zip."""
    if not REAL_ZIP.is_file():
        pytest.skip(f"the real data is not at {REAL_ZIP} (set TINYNET_REAL_DATA)")
    return REAL_ZIP


def coloured_squares(train: int = 120, val: int = 37, classes: int = 4, size: int = 16) -> Source:
    """A source of arrays that a linear model learns: a class is a bright channel and corner."""
    labels = {"train": np.arange(train) % classes, "val": np.arange(val) % classes}
    pixels = {}
    for index, (split, its) in enumerate(labels.items()):
        rng = np.random.default_rng(index)
        images = rng.integers(0, 120, (len(its), size, size, 3), dtype=np.uint8)
        half = size // 2
        for image, label in zip(images, its, strict=True):
            top, left = divmod(int(label), 2)
            image[top * half :, left * half :, label % 3] += 12
        pixels[split] = images
    splits = {
        split: tuple(
            Picture(f"{split}_{i}", int(label), f"{split}/{i}") for i, label in enumerate(its)
        )
        for split, its in labels.items()
    }

    def read(picture: Picture) -> np.ndarray:
        split, index = str(picture.where).split("/")
        return pixels[split][int(index)]

    names = tuple(f"class {i}" for i in range(classes))
    return Source(
        description="coloured squares",
        class_ids=tuple(f"c{i}" for i in range(classes)),
        class_names=names,
        splits=splits,
        read=read,
    )


@pytest.fixture(scope="session")
def squares() -> Source:
    """120 training and 37 val pictures of 16×16, 4 classes; 37 divides by nothing."""
    return coloured_squares()


@pytest.fixture(scope="session")
def shards(squares: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``squares`` packed as npy, in shards of 50."""
    out = tmp_path_factory.mktemp("packed") / "squares"
    pack(squares, out, lambda _: None, samples_per_shard=50)
    return out
