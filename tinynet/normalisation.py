"""Augmented pictures to what the model sees: of its size, normalised, of its type."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tinynet import native
from tinynet.augmentation import STEPS, active, shifts, to_float
from tinynet.config import Augmentation
from tinynet.order import Draws

Channels = tuple[float, ...]
"""One number for each channel."""


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased when shrinking: (n, H, W, C) → (n, size, size, C), float32."""
    if images.shape[1:3] == (size, size):
        return images
    planes = to_float(images).permute(0, 3, 1, 2)
    resized = F.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


def normalise(images: Tensor, mean: Channels, std: Channels, out: Tensor) -> Tensor:
    """Per channel to mean 0 and standard deviation 1, into ``out``, float32 or bfloat16.

    ``images`` (n, H, W, C) uint8 or float32; ``mean`` and ``std`` of values in 0…1.
    """
    width, channels = images.shape[2:]
    unit = 1 if images.is_floating_point() else 255
    scale, shift = affine(mean, std, unit, width, images.device)
    rows = images.float().view(-1, width * channels)
    if out.dtype == torch.float32:
        torch.addcmul(shift, rows, scale, out=out.view(rows.shape))
        return out
    return out.copy_(torch.addcmul(shift, rows, scale).view(out.shape))


def crop_and_normalise(
    images: Tensor,
    draws: Draws,
    settings: Augmentation,
    view: tuple[Channels, Channels],
    out: Tensor,
) -> bool:
    """``augment`` and ``normalise`` in one pass by the compiled loop, if it can do what is asked.

    Returns whether the work was done: only for uint8 pictures on the CPU, with no other step than
    the crop, and where the loop is compiled.
    """
    only_crop = active(settings) in ((), (STEPS["crop"],))
    if not (native.available and only_crop and images.device.type == "cpu"):
        return False
    zero = torch.zeros(len(images), dtype=torch.int64)
    padding = settings.crop_padding
    down, right = (
        shifts(draws[name], padding) - padding if padding else zero for name in ("crop_y", "crop_x")
    )
    mirrored = draws["flip"] < 0.5 if "flip" in draws else zero.bool()
    row = affine(*view, 255, images.shape[2], images.device)
    native.show(images, (down, right), mirrored, row, out)
    return True


@cache
def affine(
    mean: Channels, std: Channels, unit: int, width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Scale and shift (width · C,) of a row of pixels in 0…unit.

    A row and not a pixel: three numbers would not fill the processor's vectors.
    """
    means, stds = torch.tensor(mean), torch.tensor(std)
    scale, shift = 1 / (unit * stds), -means / stds
    return scale.repeat(width).to(device), shift.repeat(width).to(device)
