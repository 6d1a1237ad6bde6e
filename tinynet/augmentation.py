"""Whole batches of pictures in, pictures as the model sees them out; each sample with its draws.

No randomness inside: a draw is a number in [0, 1) that comes with the batch. Pictures are
(n, H, W, C), uint8 or, once a step needs it, float32 in 0…1. To add an augmentation, write a
function of a batch and its draws, give it a line in ``STEPS`` and its strength in ``Augmentation``.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tinynet.config import Augmentation
from tinynet.order import Draw, Draws


class Step(NamedTuple):
    """One entry of ``augmentation.order``.

    ``draws`` names the draws that the step needs with these settings, none if it is off;
    ``apply`` takes pictures, draws (n,) by name, the settings and the mean pixel (C,) in 0…1.
    """

    draws: Callable[[Augmentation], tuple[str, ...]]
    apply: Callable[[Tensor, Draws, Augmentation, Tensor], Tensor]


STEPS = {
    "crop": Step(
        lambda s: ("flip",) * (s.flip != "none") + ("crop_y", "crop_x") * (s.crop_padding > 0),
        lambda images, draws, s, _: crop(images, draws, s.crop_padding),
    ),
    "resized_crop": Step(
        lambda s: ("area", "ratio", "resized_y", "resized_x") * (s.resized_crop > 0),
        lambda images, draws, s, _: resized_crop(images, draws, s.resized_crop),
    ),
    "brightness": Step(
        lambda s: ("brightness",) * (s.brightness > 0),
        lambda images, draws, s, _: brighten(images, spread(draws["brightness"], s.brightness)),
    ),
    "contrast": Step(
        lambda s: ("contrast",) * (s.contrast > 0),
        lambda images, draws, s, _: contrast(images, spread(draws["contrast"], s.contrast)),
    ),
    "saturation": Step(
        lambda s: ("saturation",) * (s.saturation > 0),
        lambda images, draws, s, _: saturate(images, spread(draws["saturation"], s.saturation)),
    ),
    "gamma": Step(
        lambda s: ("gamma",) * (s.gamma > 0),
        lambda images, draws, s, _: to_float(images).pow(
            per_sample(spread(draws["gamma"], s.gamma))
        ),
    ),
    "cutout": Step(
        lambda s: ("cutout_y", "cutout_x") * (s.cutout > 0),
        lambda images, draws, s, mean: cutout(images, draws, s.cutout, mean),
    ),
    "erasing": Step(
        lambda s: ("erase", "erase_area", "erase_ratio", "erase_y", "erase_x") * (s.erasing > 0),
        lambda images, draws, s, mean: erase(images, draws, s.erasing, mean),
    ),
}


def draws_of(settings: Augmentation) -> tuple[Draw, ...]:
    """The draws that ``augment`` needs with these settings."""
    names = (name for step in settings.order for name in STEPS[step].draws(settings))
    return tuple(Draw(name, settings.flip == "alternating" and name == "flip") for name in names)


def augment(images: Tensor, draws: Draws, settings: Augmentation, mean: Tensor) -> Tensor:
    """Apply all steps that are on, in their order: uint8 (n, H, W, C) → uint8 or float32."""
    for step in active(settings):
        images = step.apply(images, draws, settings, mean)
    return images


@cache
def active(settings: Augmentation) -> tuple[Step, ...]:
    """The steps that do something."""
    return tuple(STEPS[name] for name in settings.order if STEPS[name].draws(settings))


def crop(images: Tensor, draws: Draws, padding: int) -> Tensor:
    """Mirror half of the pictures and shift each by up to ``padding`` pixels each way.

    Reflected pixels fill the gap. Each row is laid out as [its last pixels mirrored | itself |
    itself mirrored | its first pixels]: every shifted row, mirrored or not, is then one contiguous
    window, and the whole is a single gather of rows.
    """
    count, height, width, channels = images.shape
    mirrored = images.flip(2)
    laid_out = torch.cat(
        (
            mirrored[:, :, width - 1 - padding : width - 1],
            images,
            mirrored[:, :, 1:],
            images[:, :, 1 : padding + 1],
        ),
        dim=2,
    )
    length, device = laid_out.shape[2], images.device
    starts = torch.arange(0, count * height * length, height * length, device=device)
    if "flip" in draws:
        starts = torch.add(starts, draws["flip"] < 0.5, alpha=width - 1)
    shift_y = torch.zeros_like(starts)
    if padding:
        shift_y = shifts(draws["crop_y"], padding)
        starts = starts + shifts(draws["crop_x"], padding)
    rows = reflected_rows(height, padding, device).index_select(0, shift_y)
    starts = torch.add(starts[:, None], rows, alpha=length)
    windows = laid_out.as_strided(
        (count * height * length - width + 1, width * channels), (channels, 1)
    )
    return windows.index_select(0, starts.flatten()).view(images.shape)


def shifts(draw: Tensor, padding: int) -> Tensor:
    """Draws (n,) → 0 … 2 · padding, int64 (n,)."""
    most = 2 * padding
    return draw.mul(most + 1).long().clamp_(max=most)


@cache
def reflected_rows(height: int, padding: int, device: torch.device) -> Tensor:
    """Which rows a picture shows at every vertical shift: int64 (2·padding + 1, height)."""
    rows = torch.arange(-padding, padding + 1)[:, None] + torch.arange(height)
    return ((height - 1) - ((height - 1) - rows.abs()).abs()).to(device)


def resized_crop(images: Tensor, draws: Draws, least: float) -> Tensor:
    """A box of ``least``…1 of the area, sides 3:4…4:3, anywhere, brought to the full size.

    The method of Szegedy et al. (arXiv:1409.4842); bilinear. A box that would be longer than the
    picture is cut to it, where torchvision draws again.
    """
    area = least + (1 - least) * draws["area"]
    ratio = torch.exp((2 * draws["ratio"] - 1) * math.log(4 / 3))
    high, wide = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
    # Where the box's middle lies, in coordinates of -1…1.
    middle_y, middle_x = (
        (2 * draws[name] - 1) * (1 - size)
        for name, size in (("resized_y", high), ("resized_x", wide))
    )
    zero = torch.zeros_like(high)
    boxes = torch.stack((wide, zero, middle_x, zero, high, middle_y), 1).view(-1, 2, 3)
    planes = to_float(images).permute(0, 3, 1, 2)
    grid = F.affine_grid(boxes, list(planes.shape), align_corners=False)
    sampled = F.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return sampled.permute(0, 2, 3, 1).contiguous()


def brighten(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply pixel values by a factor (n,)."""
    return (to_float(images) * per_sample(factor)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance from the picture's mean grey by a factor (n,), as torchvision does."""
    floats = to_float(images)
    return torch.lerp(luma(floats).mean((1, 2, 3), True), floats, per_sample(factor)).clamp_(0, 1)


def saturate(images: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance from the pixel's own grey by a factor (n,). Grey pictures stay grey."""
    if images.shape[3] == 1:
        return images
    floats = to_float(images)
    return torch.lerp(luma(floats), floats, per_sample(factor)).clamp_(0, 1)


def luma(floats: Tensor) -> Tensor:
    """Grey values (n, H, W, 1) with the weights of ITU-R BT.601, as in PIL and torchvision."""
    if floats.shape[3] == 1:
        return floats
    weights = torch.tensor([0.299, 0.587, 0.114], device=floats.device)
    return (floats * weights).sum(3, keepdim=True)


def cutout(images: Tensor, draws: Draws, side: float, mean: Tensor) -> Tensor:
    """Fill a square with the mean: ``side`` of the picture's side, centred anywhere.

    DeVries and Taylor, arXiv:1708.04552; the square may reach over the border.
    """
    size = torch.full_like(draws["cutout_y"], side)
    inside = box(images.shape[1:3], draws["cutout_y"], draws["cutout_x"], size, size)
    return fill(images, inside, mean)


def erase(images: Tensor, draws: Draws, probability: float, mean: Tensor) -> Tensor:
    """Fill a box of 2…33 % of the area, sides 3:10…10:3, with the mean, in some pictures.

    Random erasing of Zhong et al. (arXiv:1708.04896); the box may reach over the border.
    """
    area = 0.02 + (1 / 3 - 0.02) * draws["erase_area"]
    ratio = torch.exp((2 * draws["erase_ratio"] - 1) * math.log(10 / 3))
    high, wide = (area / ratio).sqrt(), (area * ratio).sqrt()
    inside = box(images.shape[1:3], draws["erase_y"], draws["erase_x"], high, wide)
    return fill(images, inside & per_sample(draws["erase"] < probability), mean)


def box(size: torch.Size, y: Tensor, x: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    """bool (n, H, W, 1): true in a box with the centre (y, x), all as parts of the sides (n,)."""
    rows, columns = (
        ((torch.arange(length, device=y.device) + 0.5) / length - centre[:, None]).abs()
        < side[:, None] / 2
        for length, centre, side in zip(size, (y, x), (high, wide), strict=True)
    )
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def fill(images: Tensor, inside: Tensor, mean: Tensor) -> Tensor:
    """Put the mean pixel (C,), in 0…1, where ``inside`` is true."""
    colour = mean if images.is_floating_point() else (mean * 255).round()
    return torch.where(inside, colour.to(images.dtype), images)


def spread(draw: Tensor, strength: float) -> Tensor:
    """A draw in [0, 1) → a factor between 1/(1+strength) and 1+strength, 1 in the middle."""
    return torch.exp((2 * draw - 1) * math.log1p(strength))


def to_float(images: Tensor) -> Tensor:
    """uint8 → float32 in 0…1; floats stay as they are."""
    return images if images.is_floating_point() else images.float().div_(255)


def per_sample(values: Tensor) -> Tensor:
    """(n,) → (n, 1, 1, 1), to go with pictures."""
    return values[:, None, None, None]
