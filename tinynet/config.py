"""Every setting of a run: defaults here, then a YAML file, then flags; the later one wins.

The docstring of a field is its help."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro
import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from tinynet.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, and where its weights come from."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    name: str = "alexnet64"
    """Any timm model; ours are svm, alexnet64 and alexnet.tv_in1k."""
    pretrained: bool = False
    """Start from the pretrained weights that timm names (their mean and std are used too)."""
    weights: str | None = None
    """Pretrained weights from a local file instead of the network (safetensors or torch)."""
    partial: bool = False
    """Accept pretrained weights that lack layers; what was not loaded is said."""
    checkpoint: str | None = None
    """Start from the weights of a run: its folder, a checkpoint folder, or model.safetensors."""
    dropout: float | None = None
    """Dropout probability; the model's own if not given."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to training pictures; 0 turns a step off."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    flip: float = 0.5
    """Probability of a horizontal mirror image."""
    crop_padding: int = 4
    """Shift by up to this many pixels each way, reflected at the border."""
    gamma: float = 0.0
    """Raise pixel values to a power between 1/(1+gamma) and 1+gamma."""
    brightness: float = 0.0
    """Multiply pixel values by 1/(1+brightness) to 1+brightness."""
    saturation: float = 0.0
    """Scale the distance from grey by 1/(1+saturation) to 1+saturation."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is minimised."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    name: Literal["cross_entropy", "hinge"] = "cross_entropy"
    """hinge: sum over wrong classes of max(0, margin − difference)^p / classes."""
    label_smoothing: float = 0.0
    """Cross entropy: share of the target spread evenly over all classes."""
    margin: float = 1.0
    """Hinge: by how much the right class must win."""
    p: Literal[1, 2] = 1
    """Hinge: power of the shortfall."""
    l2: float = 0.0
    """Adds l2 × the sum of squared weights (not biases, not norms) to the loss."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How the weights move."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    name: str = "sgd"
    """Any timm optimizer: sgd (nesterov), momentum, adam, adamw, lamb, …"""
    lr: float = 0.1
    """Learning rate at the schedule's peak, for the global batch."""
    momentum: float = 0.9
    """Momentum of the optimizers that have one."""
    weight_decay: float = 5e-4
    """Weight decay; not applied to biases and norms."""
    clip_norm: float = 0.0
    """Clip the norm of the global gradient to this; 0 does not."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over the training, as a part of its peak."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    name: Literal["constant", "linear", "cosine", "step"] = "cosine"
    """Shape of the decay after the warm-up."""
    warmup_epochs: float = 1.0
    """Rise linearly from 0 over this many epochs."""
    final: float = 0.0
    """linear, cosine: where the decay ends."""
    step_epochs: float = 30.0
    """step: epochs between two drops."""
    step_factor: float = 0.1
    """step: what a drop multiplies by."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the arithmetic is done."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    mixed_precision: Literal["no", "bf16", "fp16"] | None = None
    """no, bf16 or fp16 (GPU only); not given: what accelerate is configured for."""
    accumulation: int = 1
    """Forward and backward passes per update; the global batch is shared among them."""
    compile: bool = False
    """Compile the model with torch.compile."""
    image_size: int | None = None
    """Resize pictures to this on the device; the packed size if not given."""
    channels_last: bool = True
    """Memory layout of pictures and convolutions."""
    threads: int | None = None
    """CPU threads of each process; if not given, the processes of a machine share its cores."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How often the model is scored on the val split, and how."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    batch_size: int = 1000
    """Pictures per forward pass and rank; changes nothing but speed and memory."""
    every_epochs: int = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """What is written down while training."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    log_every: int = 20
    """Updates between two lines of metrics.jsonl."""
    save_every: int = 0
    """Updates between two checkpoints within an epoch; 0: only at the end of each epoch."""
    project: str = "tinynet"
    """Project on Weights & Biases."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    shards: str = "shards/tiny-imagenet"
    """Folder of the packed data set (launch/pack.py makes it)."""
    output: str = "runs"
    """Folder of all runs."""
    run_name: str | None = None
    """Name of the run and of its folder; that of the config file if not given."""
    epochs: float = 15
    """Passes over the training split; 0 only evaluates."""
    global_batch_size: int = 512
    """Training samples per update, over all ranks and accumulation steps."""
    seed: int = 1
    """Decides order, augmentation, initial weights and dropout."""
    cpu: bool = False
    """Train on the CPU even if there is a GPU."""
    processes: int | None = None
    """Refuse to start with another number of processes than this."""
    resume: str = "auto"
    """auto: go on if the run folder holds a checkpoint; never; or a run's name or folder."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """Weights & Biases; auto: online if logged in, else offline."""
    model: Model = field(default_factory=Model)
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: Loss = field(default_factory=Loss)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    compute: Compute = field(default_factory=Compute)
    evaluation: Evaluation = field(default_factory=Evaluation)
    tracking: Tracking = field(default_factory=Tracking)


def load_config(arguments: Sequence[str], say_errors: bool = True) -> Config:
    """Read ``--config FILE`` if given, then the flags over it.

    Raises ``UserError`` for a bad file or value. A bad flag ends the program with status 2, as
    tyro does; ``say_errors`` false keeps it from being said by every rank.
    """
    file, flags = _config_file(arguments)
    config = tyro.cli(
        Config,
        args=flags,
        default=read_config(file) if file else Config(),
        prog="train.py",
        description="Train an image classifier. `--config FILE` reads a YAML file first.",
        console_outputs=say_errors,
        use_underscores=True,
    )
    if config.run_name is None:
        name = file.stem if file else config.model.name
        config = replace(config, run_name=name if config.epochs else f"{name}-eval")
    check(config)
    return config


def read_config(path: Path) -> Config:
    """Read a YAML file of settings that differ from the defaults; ``UserError`` names the key."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return TypeAdapter(Config).validate_python(values or {})
    except ValidationError as error:
        problems = "; ".join(_explain(dict(problem)) for problem in error.errors())
        raise UserError(f"{path}: {problems}") from None


def to_yaml(config: Config) -> str:
    """The whole configuration as a file that ``--config`` reads back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


AT_LEAST = {
    0: (
        *("epochs", "seed", "loss.l2", "optimizer.clip_norm", "schedule.warmup_epochs"),
        *("augmentation.crop_padding", "augmentation.gamma", "augmentation.brightness"),
        *("augmentation.saturation", "tracking.save_every"),
    ),
    1: (
        *("global_batch_size", "processes", "compute.accumulation", "compute.threads"),
        *("evaluation.batch_size", "evaluation.every_epochs", "tracking.log_every"),
    ),
}


def check(config: Config) -> None:
    """Refuse values that make no sense, alone or together; ``UserError`` names the flag."""
    for least, names in AT_LEAST.items():
        for name in names:
            value = reduce(getattr, name.split("."), config)
            if value is not None and value < least:  # type: ignore[operator]
                raise UserError(f"--{name} must be {least} or more, not {value}")
    rules = {
        "--optimizer.lr must be more than 0": config.optimizer.lr > 0,
        "--schedule.step_epochs must be more than 0": config.schedule.step_epochs > 0,
        "--augmentation.flip must be between 0 and 1": 0 <= config.augmentation.flip <= 1,
        "--loss.label_smoothing must be in [0, 1)": 0 <= config.loss.label_smoothing < 1,
        "--model.dropout must be in [0, 1)": 0 <= (config.model.dropout or 0) < 1,
        "--compute.mixed_precision fp16 needs a GPU: use bf16 with --cpu": (
            config.compute.mixed_precision != "fp16" or not config.cpu
        ),
    }
    for broken in (message for message, holds in rules.items() if not holds):
        raise UserError(broken)


def _config_file(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config FILE`` or ``--config=FILE`` out of the flags."""
    flags, files, rest = [], [], iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name != "--config":
            flags.append(argument)
        elif equals:
            files.append(value)
        else:
            files.append(next(rest, ""))
    if len(files) > 1 or "" in files:
        raise UserError("give --config one file, once")
    return (Path(files[0]) if files else None), flags


def _explain(problem: dict[str, Any]) -> str:
    """One sentence for a problem that pydantic found."""
    *where, key = [str(part) for part in problem["loc"]] or ["file"]
    name = ".".join([*where, key])
    if problem["type"] != "unexpected_keyword_argument":
        return f"{name} = {problem['input']!r} is wrong: {problem['msg']}"
    known = _keys(Config)
    near = difflib.get_close_matches(name, known, 1, 0.5) or difflib.get_close_matches(
        key, [path.rsplit(".", 1)[-1] for path in known], 1, 0.5
    )
    full = [path for path in known if near and (path == near[0] or path.endswith(f".{near[0]}"))]
    hint = f", did you mean {full[0]}?" if full else f": known keys are {', '.join(known)}"
    return f"unknown key {name}{hint}"


def _keys(section: Callable[..., Any]) -> list[str]:
    """All keys with their section: ``epochs``, ``optimizer.lr``, …"""
    keys = []
    for item in fields(section):  # type: ignore[arg-type]
        inner = item.type
        if is_dataclass(inner):
            keys += [f"{item.name}.{key}" for key in _keys(inner)]  # type: ignore[arg-type]
        keys.append(item.name)
    return keys
