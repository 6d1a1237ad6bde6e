"""Whole batches of uint8 pictures in, float pictures out; every sample with its own draws.

No randomness inside: a draw is a number in [0, 1) that comes with the batch. To add an
augmentation, write a function of a batch and its draws, name the draws in ``draws_of``, and call
it in ``augment``.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tinynet.config import Augmentation


def draws_of(settings: Augmentation) -> tuple[str, ...]:
    """The names of the draws that ``augment`` needs with these settings."""
    wanted = {
        "flip": settings.flip,
        "crop_y": settings.crop_padding,
        "crop_x": settings.crop_padding,
        "gamma": settings.gamma,
        "brightness": settings.brightness,
        "saturation": settings.saturation,
    }
    return tuple(name for name, strength in wanted.items() if strength)


def augment(images: Tensor, draws: dict[str, Tensor], settings: Augmentation) -> Tensor:
    """uint8 (n, H, W, C) and draws (n,) each → float32 (n, C, H, W) in 0…1, channels_last."""
    if settings.crop_padding:
        images = crop(images, draws["crop_y"], draws["crop_x"], settings.crop_padding)
    if settings.flip:
        images = flip(images, draws["flip"] < settings.flip)
    floats = to_float(images)
    if settings.gamma:
        floats = floats.pow(_per_sample(spread(draws["gamma"], settings.gamma)))
    if settings.brightness:
        floats = floats * _per_sample(spread(draws["brightness"], settings.brightness))
    if settings.saturation:
        floats = saturate(floats, spread(draws["saturation"], settings.saturation))
    return floats.clamp_(0, 1) if settings.brightness or settings.saturation else floats


def crop(images: Tensor, draw_y: Tensor, draw_x: Tensor, padding: int) -> Tensor:
    """Shift each picture by up to ``padding`` pixels each way; reflected pixels fill the gap.

    A crop is a gather of rows: only the columns are padded, and every output row is one
    contiguous window of a padded input row. uint8 (n, H, W, C) → the same.
    """
    count, height, width, channels = images.shape
    padded = torch.cat(
        (
            images[:, :, 1 : padding + 1].flip(2),
            images,
            images[:, :, width - padding - 1 : width - 1].flip(2),
        ),
        dim=2,
    )
    steps = 2 * padding + 1
    shift_y = (draw_y * steps).long() - padding
    start_x = (draw_x * steps).long()
    rows = torch.arange(height, device=images.device) + shift_y[:, None]
    rows = (height - 1) - ((height - 1) - rows.abs()).abs()
    rows = rows + height * torch.arange(count, device=images.device)[:, None]
    starts = rows * padded.shape[2] + start_x[:, None]
    windows = padded.as_strided(
        (count * height * padded.shape[2] - width + 1, width * channels), (channels, 1)
    )
    return windows.index_select(0, starts.flatten()).view(images.shape)


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the pictures (n, H, W, C) where ``flipped`` (bool, n) is true."""
    return torch.where(flipped[:, None, None, None], images.flip(2), images)


def saturate(floats: Tensor, factor: Tensor) -> Tensor:
    """Blend (n, C, H, W) with its grey version; factor 0 is grey, 1 unchanged. Grey stays grey.

    Luma weights of ITU-R BT.601, as in PIL and torchvision.
    """
    if floats.shape[1] == 1:
        return floats
    luma = torch.tensor([0.299, 0.587, 0.114], device=floats.device)
    grey = (floats * luma[:, None, None]).sum(1, keepdim=True)
    return torch.lerp(grey, floats, _per_sample(factor))


def spread(draw: Tensor, strength: float) -> Tensor:
    """A draw in [0, 1) → a factor between 1/(1+strength) and 1+strength, 1 in the middle."""
    return torch.exp((2 * draw - 1) * math.log1p(strength))


def to_float(images: Tensor) -> Tensor:
    """uint8 (n, H, W, C) → float32 (n, C, H, W) in 0…1, in channels_last memory, no transpose."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def normalise(floats: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Per channel to mean 0 and standard deviation 1: (n, C, H, W), mean and std (C,)."""
    return floats.sub_(mean[:, None, None]).div_(std[:, None, None])


def resize(floats: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased when shrinking: (n, C, H, W) → (n, C, size, size)."""
    if floats.shape[2:] == (size, size):
        return floats
    return F.interpolate(floats, (size, size), mode="bilinear", antialias=True)


def _per_sample(values: Tensor) -> Tensor:
    return values[:, None, None, None]
