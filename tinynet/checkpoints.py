"""The state of a run, on disk whole or not at all, and never unpickled.

A checkpoint is a folder: ``model.safetensors`` (weights and buffers), ``optimizer.safetensors``
and ``state.json``, which holds the position, the data's classes and the hashes of the other two.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tinynet.errors import UserError
from tinynet.files import previous, replace_folder, write_whole

FORMAT_VERSION = 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run is. ``update`` counts finished updates; ``identity`` says which run it is."""

    update: int
    best: dict[str, float]
    """Scores of the best evaluation so far and its ``update``; empty before the first."""
    seconds: float
    """Seconds spent so far, over all restarts."""
    class_ids: list[str]
    identity: dict[str, Any]
    """The settings and data that make the run what it is; see ``training.identity``."""
    world_size: int
    threads: int
    scaler: dict[str, Any]
    """State of the fp16 loss scaler; empty without one."""
    wandb_id: str


def save(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Write a checkpoint to ``folder``, taking the place of the one that may be there."""
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(_contiguous(model.state_dict()), aside / MODEL)
    tensors, rest = _flatten(optimizer.state_dict())
    save_file(tensors, aside / OPTIMIZER)
    document = {
        "format_version": FORMAT_VERSION,
        **asdict(state),
        "optimizer": rest,
        "sha256": {name: sha256(aside / name) for name in (MODEL, OPTIMIZER)},
    }
    write_whole(aside / STATE, json.dumps(document, indent=1) + "\n")
    replace_folder(aside, folder)


def find(folder: Path) -> Path | None:
    """The checkpoint in ``folder``, or the one that was about to be replaced; None if neither."""
    return next((path for path in (folder, previous(folder)) if (path / STATE).is_file()), None)


def load(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Put model and optimizer into the saved state.

    Raises ``UserError`` if a file is damaged or belongs to another model.
    """
    document = _read_state(checkpoint)
    for name, expected in document.pop("sha256").items():
        if sha256(checkpoint / name) != expected:
            raise UserError(
                f"{checkpoint / name} is damaged (its hash is wrong): delete the folder"
            )
    _load_weights(checkpoint / MODEL, model)
    optimizer.load_state_dict(
        _unflatten(load_file(checkpoint / OPTIMIZER), document.pop("optimizer"))
    )
    for weight, values in optimizer.state.items():
        for name, tensor in values.items():
            if isinstance(tensor, Tensor) and tensor.shape == weight.shape:
                # In the weight's memory layout: a sum over another one differs in the last bit.
                values[name] = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
    del document["format_version"]
    return State(**document)


def read_state(checkpoint: Path) -> State:
    """The state alone, without the tensors."""
    document = _read_state(checkpoint)
    for key in ("sha256", "optimizer", "format_version"):
        del document[key]
    return State(**document)


def load_weights(where: Path, model: nn.Module, class_ids: list[str]) -> None:
    """Load only the weights: from a run's folder (its best), a checkpoint, or a safetensors file.

    Raises ``UserError`` if there are none, if they were trained for other classes, or if they
    belong to another model.
    """
    places = (where / "checkpoints" / "best", where / "checkpoints" / "last", where)
    checkpoint = next((path for path in places if (path / MODEL).is_file()), None)
    if checkpoint is not None and (checkpoint / STATE).is_file():
        theirs = read_state(checkpoint).class_ids
        if theirs != class_ids:
            raise UserError(
                f"{checkpoint} was trained for {len(theirs)} classes ({', '.join(theirs[:3])}, …), "
                f"the data has {len(class_ids)} ({', '.join(class_ids[:3])}, …): "
                "give --shards of the same data set"
            )
    file = checkpoint / MODEL if checkpoint is not None else where
    if not file.is_file():
        raise UserError(f"no checkpoint at {where}: give a run's folder or a safetensors file")
    _load_weights(file, model)


def sha256(path: Path) -> str:
    """Hash of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_state(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / STATE
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        version = document["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a checkpoint's state ({error})") from None
    if version != FORMAT_VERSION:
        raise UserError(f"{path} has version {version}, this tinynet reads {FORMAT_VERSION}")
    return document


def _load_weights(file: Path, model: nn.Module) -> None:
    try:
        model.load_state_dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} is not a readable safetensors file ({error})") from None
    except RuntimeError as error:
        lines = str(error).split("\n")
        detail = "; ".join(line.strip() for line in lines[1:3])
        raise UserError(
            f"{file} holds weights of another model ({detail}): check --model.name"
        ) from None


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors stores row-major tensors only; channels_last weights are converted."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors and what JSON can hold.

    Tensors are called ``state.PARAMETER.NAME`` or, for the few optimizers that keep some with
    their parameter groups, ``group.GROUP.NAME``.
    """
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    groups = dict(enumerate(state["param_groups"]))
    for kind, entries in (("state", state["state"]), ("group", groups)):
        for index, values in entries.items():
            for name, value in values.items():
                key = f"{kind}.{index}.{name}"
                if isinstance(value, Tensor):
                    tensors[key] = value
                else:
                    rest[key] = value
    return _contiguous(tensors), rest


def _unflatten(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    entries: dict[str, dict[int, dict[str, Any]]] = {"state": {}, "group": {}}
    for key, value in {**rest, **tensors}.items():
        kind, index, name = key.split(".", 2)
        entries[kind].setdefault(int(index), {})[name] = value
    groups = entries["group"]
    return {"state": entries["state"], "param_groups": [groups[i] for i in range(len(groups))]}
