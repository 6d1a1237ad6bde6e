"""Pictures mixed with a partner from the same global batch, and how much is left of each label."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from tinynet.augmentation import box, per_sample
from tinynet.config import Augmentation
from tinynet.order import Draw, Draws


class Mixed(NamedTuple):
    """The partners' ``targets`` int64 (n,); ``share`` float32 (n,) of each sample's own label."""

    targets: Tensor
    share: Tensor


def mixing_draws(settings: Augmentation) -> tuple[Draw, ...]:
    """The draws that ``mix`` needs with these settings; none if it has nothing to do."""
    names = ("mixup",) * (settings.mixup > 0)
    names += ("cutmix", "cutmix_y", "cutmix_x") * (settings.cutmix > 0)
    return tuple(Draw(name) for name in (*names, "mix") if names)


def partners_of(order: Tensor) -> Tensor:
    """The row of each sample's partner in a share whose rows are the positions ``order`` (n,).

    Neighbours in the global batch are partners: its order is random already, and they are in the
    same share for any number of ranks as long as shares are even.
    """
    row_of = torch.empty_like(order)
    row_of[order] = torch.arange(len(order))
    return row_of[order ^ 1]


def mix(
    images: Tensor, draws: Draws, partners: Tensor, settings: Augmentation
) -> tuple[Tensor, Tensor]:
    """Mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899) of each picture with its partner.

    ``images`` float (n, H, W, C), ``partners`` int64 (n,), the row of each one's partner. If both
    are on, each sample draws which. Returns the mixed pictures, and float32 (n,): the share that
    the sample itself, not its partner, has in its picture.
    """
    others = images[partners]
    if not settings.cutmix:
        choose_mixup = torch.ones_like(partners, dtype=torch.bool)
    else:
        choose_mixup = draws["mix"] < (0.5 if settings.mixup else 0.0)
    share = torch.ones_like(draws["mix"])
    if settings.mixup:
        own = beta_quantile(draws["mixup"], settings.mixup)
        share = torch.where(choose_mixup, own, share)
        images = torch.lerp(others, images, per_sample(share).to(images.dtype))
    if settings.cutmix:
        side = (1 - beta_quantile(draws["cutmix"], settings.cutmix)).sqrt()
        inside = box(images.shape[1:3], draws["cutmix_y"], draws["cutmix_x"], side, side)
        inside = inside & per_sample(~choose_mixup)
        images = torch.where(inside, others, images)
        share = torch.where(choose_mixup, share, 1 - inside.float().mean((1, 2, 3)))
    return images, share


def beta_quantile(draw: Tensor, alpha: float) -> Tensor:
    """The inverse distribution function of Beta(alpha, alpha): draws in [0, 1) → values in [0, 1].

    Interpolated in a table. With x = t^(1/alpha) the density becomes smooth at 0, and the other
    half is its mirror image.
    """
    values, probabilities = (part.to(draw.device) for part in beta_table(alpha))
    mirrored = draw > 0.5
    low = torch.where(mirrored, 1 - draw, draw)
    upper = torch.searchsorted(probabilities, low).clamp(1, len(probabilities) - 1)
    left, right = probabilities[upper - 1], probabilities[upper]
    value = torch.lerp(
        values[upper - 1], values[upper], ((low - left) / (right - left)).clamp(0, 1)
    )
    return torch.where(mirrored, 1 - value, value)


@cache
def beta_table(alpha: float, points: int = 4097) -> tuple[Tensor, Tensor]:
    """Values 0…½ of Beta(alpha, alpha) and the probability of a smaller one, float32 each."""
    t = torch.linspace(0, 0.5**alpha, points, dtype=torch.float64)
    values = t ** (1 / alpha)
    mass = torch.cumulative_trapezoid((1 - values) ** (alpha - 1), t)
    probabilities = torch.cat((torch.zeros(1, dtype=torch.float64), mass)) / mass[-1] / 2
    return values.float(), probabilities.float()
