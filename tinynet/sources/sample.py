"""The built-in sample: ten classes of drawn pictures in Tiny ImageNet's own layout.

A class is a shape or a texture; place, size, angle, colours, light, clutter and noise say nothing
about it. Every picture is drawn from its class and number alone, so that every run gives the same
bytes (with the same NumPy and Pillow).
"""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tinynet.errors import UserError
from tinynet.files import flush
from tinynet.sources.source import Source
from tinynet.sources.tiny_imagenet import tiny_imagenet

DRAWING = 2
"""Number of this way to draw, to be raised when the pictures change."""

SIZE = 64
SCALE = 2
"""Pictures are drawn this many times larger and reduced, for smooth edges."""

FIRST_OF_VAL = 1_000_000
"""Pictures of val are numbered from here, so that none is in train."""

Points = list[tuple[float, float]]
Colour = tuple[int, int, int]


def regular(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon of radius 1, or a star if every other corner lies at ``inner``."""
    turns = [2 * math.pi * i / corners for i in range(corners)]
    radii = [1.0 if i % 2 == 0 else inner for i in range(corners)]
    return [(r * math.cos(t), r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]


CROSS: Points = [
    (x * 0.33, y * 0.33)
    for x, y in (
        *((-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1)),
        *((1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)),
    )
]
ARROW: Points = [(1, 0), (0, 0.8), (0, 0.3), (-1, 0.3), (-1, -0.3), (0, -0.3), (0, -0.8)]
MOON: Points = [(math.cos(0.9 + t * 0.45), math.sin(0.9 + t * 0.45)) for t in range(11)] + [
    (0.55 + 0.75 * math.cos(4.2 - t * 0.35), 0.75 * math.sin(4.2 - t * 0.35)) for t in range(7)
]


def _stripes(x: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.sin(9 * x) > 0


def _checks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (np.sin(8 * x) > 0) ^ (np.sin(8 * y) > 0)


def _rings(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(11 * np.hypot(x, y)) > 0


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sin(8 * x) * np.sin(8 * y) > 0.35


Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]
CLASSES: dict[str, Points | Texture] = {
    "triangle": regular(3),
    "square": regular(4),
    "star": regular(10, inner=0.42),
    "cross": CROSS,
    "arrow": ARROW,
    "moon": MOON,
    "striped disc": _stripes,
    "chequered disc": _checks,
    "ringed disc": _rings,
    "dotted disc": _dots,
}
"""What is drawn: the outline of a flat shape, or a texture over the coordinates of a disc."""


def sample_folder(cache: Path) -> Path:
    """Where ``sample`` draws when no path is given; another drawing has another folder."""
    return cache / f"sample-{DRAWING}"


def sample(path: Path) -> Source:
    """The drawn data set at ``path``, drawn now if nothing is there.

    It is read as Tiny ImageNet is. Raises ``UserError`` if something else is at ``path``.
    """
    if not path.exists():
        write_sample(path)
    return replace(tiny_imagenet(path), description="the built-in sample")


def write_sample(folder: Path, train_per_class: int = 250, val_per_class: int = 50) -> Path:
    """Draw the data set into ``folder``, whole or not at all, in the official layout.

    Returns ``folder``. Raises ``UserError`` if it holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: choose another folder for the sample")
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    val = aside / "val" / "images"
    val.mkdir(parents=True)
    wnids = [f"n{90_000_001 + label}" for label in range(len(CLASSES))]
    annotations = []
    for label, wnid in enumerate(wnids):
        train = aside / "train" / wnid / "images"
        train.mkdir(parents=True)
        for i in range(train_per_class):
            _save(draw(label, i), train / f"{wnid}_{i}.JPEG")
        for i in range(val_per_class):
            name = f"val_{i * len(wnids) + label}.JPEG"
            _save(draw(label, FIRST_OF_VAL + i), val / name)
            annotations.append(f"{name}\t{wnid}\t0\t0\t{SIZE - 1}\t{SIZE - 1}\n")
    words = [f"{wnid}\t{name}\n" for wnid, name in zip(wnids, CLASSES, strict=True)]
    (aside / "val" / "val_annotations.txt").write_text("".join(annotations))
    (aside / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))
    (aside / "words.txt").write_text("".join(words))
    # Thousands of small files: one sync takes far less time than a flush of each.
    os.sync()
    aside.rename(folder)
    flush(folder.parent)
    return folder


def draw(label: int, number: int) -> Image.Image:
    """Draw picture ``number`` of a class: RGB, 64x64."""
    rng = np.random.Generator(np.random.PCG64([label, number]))
    ground = _colour(rng)
    canvas = _background(rng, ground)
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(1, 5)):
        _scribble(pen, rng)
    radius = rng.uniform(0.24, 0.42) * SIZE * SCALE
    centre = rng.uniform(radius, SIZE * SCALE - radius, 2)
    turn = rng.uniform(0, 2 * math.pi)
    figure = list(CLASSES.values())[label]
    fore = _other_colour(rng, ground)
    back = _other_colour(rng, fore)
    if callable(figure):
        _paste_texture(canvas, figure, (centre, radius, turn), (fore, back))
    else:
        stretch = rng.uniform(0.8, 1.0)
        corners = [_place((x, y * stretch), centre, radius, turn) for x, y in figure]
        pen.polygon(corners, fill=fore, outline=back, width=SCALE)
    for _ in range(rng.integers(0, 2)):
        _scribble(pen, rng)
    return _photograph(canvas, rng)


def _background(rng: np.random.Generator, ground: Colour) -> Image.Image:
    """A smooth patchwork of colours around one."""
    rows, columns = rng.integers(2, 6, 2).tolist()
    patches = rng.integers(0, 256, (rows, columns, 3))
    small = Image.fromarray((0.75 * np.array(ground) + 0.25 * patches).astype(np.uint8))
    return small.resize((SIZE * SCALE, SIZE * SCALE), Image.Resampling.BICUBIC)


def _scribble(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Clutter: a line or a small blob anywhere."""
    size = SIZE * SCALE
    colour = _colour(rng)
    x, y, dx, dy = rng.uniform(0, size, 2).tolist() + rng.uniform(-40, 40, 2).tolist()
    if rng.random() < 0.5:
        pen.line([(x, y), (x + dx, y + dy)], fill=colour, width=int(rng.integers(1, 6)))
    else:
        r = rng.uniform(2, 9)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def _paste_texture(
    canvas: Image.Image,
    texture: Texture,
    place: tuple[np.ndarray, float, float],
    colours: tuple[Colour, Colour],
) -> None:
    """Fill a disc with a texture in two colours."""
    (centre_x, centre_y), radius, turn = place
    y, x = np.mgrid[0 : SIZE * SCALE, 0 : SIZE * SCALE]
    u, v = (x - centre_x) / radius, (y - centre_y) / radius
    along, across = u * math.cos(turn) + v * math.sin(turn), v * math.cos(turn) - u * math.sin(turn)
    disc = np.hypot(u, v) < 1
    filled = np.where(texture(along, across)[..., None], *(np.array(c, np.uint8) for c in colours))
    mask = Image.fromarray(np.where(disc, 255, 0).astype(np.uint8))
    canvas.paste(Image.fromarray(filled.astype(np.uint8)), mask=mask)


def _photograph(canvas: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Reduce, blur a little, light from one side, add the sensor's noise."""
    picture = canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
    picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.8))))
    ramp = np.linspace(-1, 1, SIZE)
    turn, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.35)
    light = 1 + strength * (math.cos(turn) * ramp[:, None] + math.sin(turn) * ramp[None, :])
    noise = rng.normal(0, rng.uniform(2, 12), (SIZE, SIZE, 3))
    pixels = np.asarray(picture) * light[..., None] + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _other_colour(rng: np.random.Generator, first: Colour) -> Colour:
    """A colour that can be told from ``first`` by eye."""
    while True:
        second = _colour(rng)
        if sum(abs(a - b) for a, b in zip(first, second, strict=True)) > 260:
            return second


def _colour(rng: np.random.Generator) -> Colour:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _place(
    point: tuple[float, float], centre: np.ndarray, radius: float, turn: float
) -> tuple[float, float]:
    x, y = point
    return (
        centre[0] + radius * (x * math.cos(turn) - y * math.sin(turn)),
        centre[1] + radius * (x * math.sin(turn) + y * math.cos(turn)),
    )


def _save(picture: Image.Image, path: Path) -> None:
    picture.save(path, "JPEG", quality=90)
