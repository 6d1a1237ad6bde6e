"""Every setting of a run, with its default; the docstring of a field is its help."""

from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

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
    stem: Literal["original", "small"] = "original"
    """small: start with a 3×3 convolution of stride 1 and no pooling, for small pictures."""


Step = Literal[
    "crop",
    "resized_crop",
    "brightness",
    "contrast",
    "saturation",
    "gamma",
    "cutout",
    "erasing",
]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to training pictures; 0 turns a step off."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    order: tuple[Step, ...] = (
        *("crop", "resized_crop", "brightness", "contrast", "saturation", "gamma"),
        *("cutout", "erasing"),
    )
    """The order of the steps; mixup and cutmix come after all of them."""
    flip: Literal["none", "random", "alternating"] = "random"
    """Mirror half of the pictures, in the crop; alternating: the other half in the next epoch."""
    crop_padding: int = 4
    """Shift by up to this many pixels each way, reflected at the border."""
    resized_crop: float = 0.0
    """Cut out a box of this share of the area or more, and enlarge it to the full size."""
    brightness: float = 0.0
    """Multiply pixel values by 1/(1+brightness) to 1+brightness."""
    contrast: float = 0.0
    """Scale the distance from the picture's mean grey by 1/(1+contrast) to 1+contrast."""
    saturation: float = 0.0
    """Scale the distance from grey by 1/(1+saturation) to 1+saturation."""
    gamma: float = 0.0
    """Raise pixel values to a power between 1/(1+gamma) and 1+gamma."""
    cutout: float = 0.0
    """Fill a square of this share of the picture's side with the mean."""
    erasing: float = 0.0
    """Probability of filling a box of random size and shape with the mean."""
    mixup: float = 0.0
    """Blend with another picture of the batch; alpha of the beta distribution of the shares."""
    cutmix: float = 0.0
    """Paste in a box of another picture of the batch; alpha of the beta distribution."""


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
    layer_decay: float | None = None
    """Multiply the learning rate by this for every layer further from the output."""


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
    sizes: tuple[tuple[float, int], ...] = ()
    """Sizes of the pictures from these epochs on, as 0 32 5 48 9 64: small ones cost less."""
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
    residency: Literal["auto", "host", "device"] = "auto"
    """Where the pixels wait: mapped on the host, or on the device; auto: on a GPU with room."""
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
    flip: bool = False
    """Score the mean of each picture's and its mirror image's logits too, apart."""


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
    protocol: Literal["official", "holdout"] = "official"
    """official: train on train, score the last epoch on val; holdout: a tenth of train chooses the
    epoch, and val is scored once, at the end."""
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


AT_LEAST = {
    0: (
        *("epochs", "seed", "loss.l2", "optimizer.clip_norm", "schedule.warmup_epochs"),
        *("augmentation.crop_padding", "augmentation.gamma", "augmentation.brightness"),
        *("augmentation.contrast", "augmentation.saturation", "augmentation.mixup"),
        *("augmentation.cutmix", "tracking.save_every"),
    ),
    1: (
        *("global_batch_size", "processes", "compute.accumulation", "compute.threads"),
        "compute.image_size",
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
    shown = config.augmentation
    rules = {
        "--optimizer.lr must be more than 0": config.optimizer.lr > 0,
        "--schedule.step_epochs must be more than 0": config.schedule.step_epochs > 0,
        "--schedule.sizes must be pairs of an epoch and a size, in order of the epochs": (
            list(config.schedule.sizes) == sorted(config.schedule.sizes)
            and all(epoch >= 0 and size >= 1 for epoch, size in config.schedule.sizes)
        ),
        "--optimizer.layer_decay must be in (0, 1]": 0 < (config.optimizer.layer_decay or 1) <= 1,
        "--augmentation.resized_crop must be in [0, 1]": 0 <= shown.resized_crop <= 1,
        "--augmentation.cutout must be in [0, 1]": 0 <= shown.cutout <= 1,
        "--augmentation.erasing must be in [0, 1]": 0 <= shown.erasing <= 1,
        f"--augmentation.order must name each step once: {' '.join(get_args(Step))}": (
            sorted(shown.order) == sorted(get_args(Step))
        ),
        "--loss.label_smoothing must be in [0, 1)": 0 <= config.loss.label_smoothing < 1,
        "--model.dropout must be in [0, 1)": 0 <= (config.model.dropout or 0) < 1,
        "--compute.mixed_precision fp16 needs a GPU: use bf16 with --cpu": (
            config.compute.mixed_precision != "fp16" or not config.cpu
        ),
    }
    for broken in (message for message, holds in rules.items() if not holds):
        raise UserError(broken)
