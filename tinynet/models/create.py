"""From a name and the data's shape to a model, with or without pretrained weights."""

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models import set_pretrained_check_hash
from torch import nn
from torch.nn import functional as F

from tinynet.config import Model
from tinynet.errors import UserError


class Created(NamedTuple):
    """A model, and the names of the weights that pretrained weights did not cover."""

    model: nn.Module
    not_loaded: list[str]


def create_model(settings: Model, channels: int, image_size: int, classes: int) -> Created:
    """Create any timm model, ours among them, for pictures (channels, image_size, image_size).

    Raises ``UserError`` if the name is unknown, the model cannot take such pictures, or the
    pretrained weights cannot be reached or do not cover the model.
    """
    check_name(settings.name)
    arguments: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    defaults = timm.get_pretrained_cfg(settings.name)
    if defaults is not None and defaults.fixed_input_size:
        arguments["img_size"] = image_size
    if settings.dropout is not None:
        arguments["drop_rate"] = settings.dropout
    try:
        if settings.pretrained or settings.weights:
            created = _create_pretrained(settings, arguments)
        else:
            created = Created(timm.create_model(settings.name, **arguments), [])
        if settings.stem == "small":
            shrink_stem(created.model, settings.name)
        return created
    except TypeError as error:
        raise UserError(
            f"model {settings.name} does not take these settings ({error}): check --model.dropout"
        ) from None


def check_name(name: str) -> None:
    """Raise ``UserError`` with the nearest names if timm knows no such model."""
    if timm.is_model(name.split(".")[0]) and name in [
        *timm.list_models(),
        *timm.list_pretrained(),
    ]:
        return
    near = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()], 4, 0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
    raise UserError(f"--model.name {name} is not known to timm: {hint}")


def shrink_stem(model: nn.Module, name: str) -> None:
    """Keep the size of small pictures: the first convolution becomes 3×3 of stride 1, the first
    max pooling goes.

    Weights are resampled and keep their sum, so that an even area gives what it gave before. Raises
    ``UserError`` if timm does not say which convolution is the first.
    """
    where = model.pretrained_cfg["first_conv"]  # type: ignore[index]
    if not isinstance(where, str):
        raise UserError(f"--model.stem small: {name} has no single first convolution: leave it out")
    old = model.get_submodule(where)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=old.bias is not None)
    with torch.no_grad():
        ratio = old.weight[0, 0].numel() / new.weight[0, 0].numel()
        new.weight.copy_(F.interpolate(old.weight, (3, 3), mode="area") * ratio)
        lost = old.weight.sum((2, 3), keepdim=True) - new.weight.sum((2, 3), keepdim=True)
        new.weight += lost / new.weight[0, 0].numel()
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(where, new)
    pools = [at for at, module in model.named_modules() if isinstance(module, nn.MaxPool2d)]
    if pools:
        model.set_submodule(pools[0], nn.Identity())


def _create_pretrained(settings: Model, arguments: dict[str, Any]) -> Created:
    """Load weights through timm and refuse gaps that were not asked for."""
    overlay = {"file": settings.weights} if settings.weights else None
    if settings.weights and not Path(settings.weights).is_file():
        raise UserError(f"--model.weights {settings.weights} does not exist: check the path")
    set_pretrained_check_hash(True)
    seed = torch.random.get_rng_state()
    fresh = timm.create_model(settings.name, **arguments).state_dict()
    torch.random.set_rng_state(seed)
    try:
        model: Any = timm.create_model(
            settings.name,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            pretrained_strict=not settings.partial,
            **arguments,
        )
    except TypeError:
        raise
    except Exception as error:
        source = settings.weights or "the hub"
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the pretrained weights of {settings.name} could not be loaded from {source} "
            f"({type(error).__name__}: {reason}): {_remedy(settings)}"
        ) from None
    missing = not_loaded(model, fresh)
    head = model.pretrained_cfg.get("classifier") or ""
    gaps = [name for name in missing if not name.startswith(f"{head}.")]
    if gaps and not settings.partial:
        raise UserError(
            f"{settings.weights or settings.name} lacks the weights {', '.join(gaps)}: "
            "give the whole file, or --model.partial to start these layers fresh"
        )
    return Created(model, missing)


def not_loaded(model: nn.Module, fresh: dict[str, torch.Tensor]) -> list[str]:
    """Names of the weights that are still as in a fresh model made with the same seed.

    Asking the weights, not the file, holds whatever a model's loader renames or converts.
    """
    return [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and torch.equal(tensor, fresh[name])
    ]


def _remedy(settings: Model) -> str:
    if settings.weights:
        return "is it a safetensors or torch file of this model (--model.partial allows gaps)?"
    defaults = timm.get_pretrained_cfg(settings.name)
    where = getattr(defaults, "url", None) or f"the hub's page of {settings.name}"
    return f"download them elsewhere from {where} and pass --model.weights FILE"
