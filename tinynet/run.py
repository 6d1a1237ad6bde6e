"""A run made ready: the world it got, its folder, its data, its model. Training comes after."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from tinynet import checkpoints
from tinynet.batches import View, evaluation_batches
from tinynet.config import Config
from tinynet.errors import UserError
from tinynet.mixing import mixing_draws
from tinynet.models import create_model
from tinynet.models.linear import Linear
from tinynet.optimization import create_optimizer, loss_function
from tinynet.order import Plan, generator, hold_out
from tinynet.shards import Split

SUMMARY = "summary.json"


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What the launcher says it started: processes in all, and on this machine."""

    processes: int
    local_processes: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that training needs. ``bare`` is the model without DDP around it.

    ``val`` is scored while training, and ``test`` once at the end; they are the same split unless
    the protocol is holdout.
    """

    config: Config
    folder: Path
    checkpoint: Path | None
    accelerator: Accelerator
    train: Split
    val: Split
    test: Split
    plan: Plan
    view: View
    model: nn.Module
    bare: nn.Module
    not_loaded: list[str]
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor, Tensor], Tensor]
    identity: dict[str, Any]


def prepare(config: Config, accelerator: Accelerator) -> Run:
    """Open the data, find the run's place, create model and optimizer. Raises ``UserError``."""
    train, val, test = open_splits(config)
    plan = Plan(
        seed=config.seed,
        samples=len(train),
        epochs=config.epochs,
        global_batch_size=config.global_batch_size,
        world_size=accelerator.num_processes,
        rank=accelerator.process_index,
        accumulation=config.compute.accumulation,
    )
    if config.augmentation.crop_padding >= train.manifest.image_shape[0]:
        raise UserError(
            f"--augmentation.crop_padding {config.augmentation.crop_padding} is not less than the "
            f"pictures' {train.manifest.image_shape[0]} pixels: make it smaller"
        )
    if mixing_draws(config.augmentation) and plan.share_size % 2:
        raise UserError(
            f"--augmentation.mixup and cutmix pair samples, and a rank gets {plan.share_size} at "
            "a time: choose a --global_batch_size that gives an even number"
        )
    identity = identity_of(config, train, test)
    folder, checkpoint = find_place(config, identity)
    height, _, channels = train.manifest.image_shape
    image_size = config.compute.image_size or height
    torch.manual_seed(config.seed)
    # One rank of a machine downloads, the others find the file.
    with accelerator.local_main_process_first():
        bare, not_loaded = create_model(
            config.model, channels, image_size, len(train.manifest.class_ids)
        )
    if config.model.checkpoint and checkpoint is None:
        checkpoints.load_weights(
            Path(config.model.checkpoint), bare, list(train.manifest.class_ids)
        )
    elif checkpoint is None:
        fit_inputs(bare, train, view_of(config, bare, train, image_size, accelerator))
    if config.compute.channels_last:
        bare = bare.to(memory_format=torch.channels_last)
    for split in dict.fromkeys((train, val, test)):
        if is_resident(split, config.compute.residency, accelerator.device):
            split.reside(accelerator.device)
    model, optimizer = accelerator.prepare(bare, create_optimizer(bare, config.optimizer))
    return Run(
        config=config,
        folder=folder,
        checkpoint=checkpoint,
        accelerator=accelerator,
        train=train,
        val=val,
        test=test,
        plan=plan,
        view=view_of(config, bare, train, image_size, accelerator),
        model=model,
        bare=bare,
        not_loaded=not_loaded,
        optimizer=optimizer,
        loss=loss_function(config.loss),
        identity=identity,
    )


def open_splits(config: Config) -> tuple[Split, Split, Split]:
    """The splits to train on, to score while training, and to score at the end.

    Raises ``UserError`` if they do not fit together or there is nothing to hold out.
    """
    train, val = Split(Path(config.shards) / "train"), Split(Path(config.shards) / "val")
    if (train.manifest.class_ids, train.manifest.image_shape) != (
        val.manifest.class_ids,
        val.manifest.image_shape,
    ):
        raise UserError(
            f"{train.folder} and {val.folder} differ in classes or picture size: pack them together"
        )
    if config.protocol == "official":
        return train, val, val
    kept, held = hold_out(train.labels)
    if not len(held):
        raise UserError(
            f"--protocol holdout takes a tenth of every class, and {train.folder} has fewer than "
            "ten pictures of each: use --protocol official"
        )
    return train.part(kept), train.part(held), val


def start_accelerator(config: Config, launched: Launched) -> Accelerator:
    """Start accelerate and check the world it got against the world that was asked for.

    Raises ``UserError`` if it is another one.
    """
    if config.compute.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("--compute.mixed_precision fp16 needs a GPU and none was found: use bf16")
    try:
        accelerator = Accelerator(
            cpu=config.cpu,
            mixed_precision=config.compute.mixed_precision,
            dynamo_backend="inductor" if config.compute.compile else None,
            # Keeps DDP from rebuilding its buckets after the first backward pass: with three and
            # more ranks a resumed run would sum in another order than an uninterrupted one.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UserError(f"accelerate refuses these settings: {error}") from None
    got = accelerator.num_processes
    if got != launched.processes:
        raise UserError(
            f"{launched.processes} processes were launched but each stands alone (no GPU was "
            "found): for several CPU processes see configs/accelerate/cpu.yaml, or add --cpu"
        )
    if config.processes is not None and got != config.processes:
        raise UserError(
            f"--processes {config.processes} were asked for, {got} started: start them with "
            f"`accelerate launch --config_file configs/accelerate/…` or "
            f"`torchrun --nproc_per_node {config.processes}`"
        )
    # accelerate gives a CPU process one thread, however many cores there are.
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    torch.set_num_threads(config.compute.threads or max(1, cores // launched.local_processes))
    return accelerator


def identity_of(config: Config, train: Split, val: Split) -> dict[str, Any]:
    """The settings and data that decide the weights; what is not here may change on resuming."""
    settings = json.loads(json.dumps(asdict(config)))
    for name in ("shards", "output", "run_name", "cpu", "processes", "resume", "wandb"):
        del settings[name]
    for name in ("evaluation", "tracking"):
        del settings[name]
    settings["data"] = [shard.sha256 for split in (train, val) for shard in split.manifest.shards]
    return settings


def find_place(config: Config, identity: dict[str, Any]) -> tuple[Path, Path | None]:
    """The run's folder and the checkpoint to go on from, as ``--resume`` says.

    Raises ``UserError`` if the folder holds a finished run or another one, or if the run to be
    resumed is not there.
    """
    folder = Path(config.output) / str(config.run_name)
    if config.resume not in ("auto", "never"):
        named = (Path(config.resume), Path(config.output) / config.resume)
        folder = next((path for path in named if path.is_dir()), named[0])
    checkpoint = checkpoints.find(folder / "checkpoints" / "last")
    if (folder / SUMMARY).exists():
        raise UserError(
            f"{folder} holds a finished run: give another --run_name, or delete the folder"
        )
    if checkpoint is None:
        if config.resume not in ("auto", "never"):
            raise UserError(
                f"--resume {config.resume}: there is no run with a checkpoint in {folder}"
            )
        return folder, None
    if config.resume == "never":
        raise UserError(
            f"{folder} holds an unfinished run: give another --run_name, or --resume auto to go on"
        )
    theirs = checkpoints.read_state(checkpoint).identity
    changed = _differences(theirs, identity)
    if changed:
        raise UserError(
            f"{folder} holds another run ({'; '.join(changed[:3])}): give another --run_name, "
            "or the settings of that run to go on"
        )
    return folder, checkpoint


def is_resident(split: Split, residency: str, device: torch.device) -> bool:
    """Whether the split's pixels shall live on the device: auto takes half of a GPU's free memory.

    Raises ``UserError`` if they do not fit although asked for.
    """
    if residency == "host" or (residency == "auto" and device.type != "cuda"):
        return False
    if device.type != "cuda":
        return True
    needed = len(split) * math.prod(split.manifest.image_shape)
    free, _ = torch.cuda.mem_get_info(device)
    if residency == "device" and needed > free:
        raise UserError(
            f"--compute.residency device: {split.folder} takes {needed / 1e9:.1f} GB, the GPU has "
            f"{free / 1e9:.1f} GB free: use host"
        )
    return residency == "device" or needed < free / 2


def dropout_seed(seed: int, update: int, rank: int) -> int:
    """Seeds what is random inside the model: repeatable, but not the same for all rank counts."""
    return generator(seed, "dropout", update, rank).initial_seed()


def fit_inputs(model: nn.Module, train: Split, view: View) -> None:
    """Show the training pictures once to a model that takes constants from them."""
    if isinstance(model, Linear):
        everything = range(len(train))
        model.fit_inputs(
            batch.images for batch in evaluation_batches(train, everything, 2000, view)
        )


def view_of(
    config: Config, model: nn.Module, train: Split, image_size: int, accelerator: Accelerator
) -> View:
    """Pretrained weights want the mean and std that they were trained with."""
    mean, std = train.manifest.mean, train.manifest.std
    pretrained: Any = getattr(model, "pretrained_cfg", None) or {}
    if (config.model.pretrained or config.model.weights) and pretrained.get("mean"):
        mean, std = tuple(pretrained["mean"]), tuple(pretrained["std"])
    channels = train.manifest.image_shape[2]
    return View(
        mean=mean[:channels],
        std=std[:channels],
        image_size=image_size,
        device=accelerator.device,
        dtype=torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32,
    )


def _differences(theirs: dict[str, Any], ours: dict[str, Any], prefix: str = "") -> list[str]:
    changed = []
    for key in sorted(theirs.keys() | ours.keys()):
        old, new = theirs.get(key), ours.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed += _differences(old, new, f"{prefix}{key}.")
        elif key == "data" and old != new:
            changed.append("it was trained on other shards")
        elif old != new:
            changed.append(f"{prefix}{key} was {old}, is {new}")
    return changed
