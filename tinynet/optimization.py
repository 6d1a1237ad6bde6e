"""Losses by name, the optimizer's parameter groups, and the learning rate of every update."""

import difflib
import math
from collections.abc import Callable

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import Tensor, nn
from torch.nn import functional as F

from tinynet.config import Loss, Optimizer, Schedule
from tinynet.errors import UserError


def loss_function(settings: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """Logits (n, classes) and targets int64 (n,) → the loss of each sample, float32 (n,).

    The hinge loss is that of Weston and Watkins (ESANN 1999) as torch has it:
    sum over wrong classes of max(0, margin - (right logit - wrong logit))^p / classes.
    """
    if settings.name == "hinge":
        return lambda logits, targets: F.multi_margin_loss(
            logits.float(), targets, p=settings.p, margin=settings.margin, reduction="none"
        )
    return lambda logits, targets: F.cross_entropy(
        logits.float(), targets, label_smoothing=settings.label_smoothing, reduction="none"
    )


def l2_penalty(model: nn.Module) -> Tensor:
    """The sum of squared weights, without biases and norms (their tensors have one axis)."""
    weights = [weight for weight in model.parameters() if weight.requires_grad and weight.ndim > 1]
    return torch.stack([weight.square().sum() for weight in weights]).sum()


def create_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Any optimizer of timm; weight decay leaves out biases and norms.

    Layers are those of the model's ``group_matcher``; each group's ``lr_scale`` holds its part of
    the learning rate. Raises ``UserError`` with the nearest names if timm knows no such optimizer.
    """
    known = [str(name) for name in list_optimizers()]
    if settings.name not in known:
        near = difflib.get_close_matches(settings.name, known, 4, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.optim.list_optimizers()"
        raise UserError(f"--optimizer.name {settings.name} is not known to timm: {hint}")
    return create_optimizer_v2(
        model,
        opt=settings.name,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        layer_decay=settings.layer_decay,
    )


def learning_rate(
    update: int, updates: int, updates_per_epoch: int, peak: float, schedule: Schedule
) -> float:
    """The learning rate of an update (0 … updates - 1): warm-up, then the schedule's decay.

    A pure function: a resumed run needs no saved scheduler. The warm-up's first update already
    moves (1/w, 2/w, … of the peak), and the decay would reach ``final`` one update after the end.
    """
    warmup = round(schedule.warmup_epochs * updates_per_epoch)
    if update < warmup:
        return peak * (update + 1) / warmup
    progress = (update - warmup) / max(1, updates - warmup)
    if schedule.name == "linear":
        return peak * (schedule.final + (1 - schedule.final) * (1 - progress))
    if schedule.name == "cosine":
        wave = 0.5 * (1 + math.cos(math.pi * progress))
        return peak * (schedule.final + (1 - schedule.final) * wave)
    if schedule.name == "step":
        return float(
            peak * schedule.step_factor ** int(update / (schedule.step_epochs * updates_per_epoch))
        )
    return peak


def image_size(update: int, updates_per_epoch: int, full: int, schedule: Schedule) -> int:
    """The pictures' size at an update: that of the last epoch reached, or the full one."""
    reached = [size for epoch, size in schedule.sizes if update >= round(epoch * updates_per_epoch)]
    return reached[-1] if reached else full


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give all parameter groups this learning rate (times the group's own ``lr_scale``)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
