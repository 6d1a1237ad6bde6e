"""What a run says of itself: where it is, how it goes, what came out."""

import platform
import secrets
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from tinynet import checkpoints
from tinynet.evaluation import Scores
from tinynet.run import Run


@dataclass
class Progress:
    """Where a run is, beyond its weights; saved with every checkpoint."""

    update: int = 0
    best: dict[str, float] = field(default_factory=dict)
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    wandb_id: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, over all restarts."""
        return self.seconds_before + time.monotonic() - self.started


def position(run: Run, progress: Progress) -> dict[str, float]:
    """What every line of the log begins with."""
    update = progress.update
    return {
        "epoch": update / max(1, run.plan.updates_per_epoch),
        "update": update,
        "samples": update * run.plan.global_batch_size,
    }


def describe(run: Run, progress: Progress) -> str:
    """The first line of a run: what it is and what it runs on."""
    world, manifest = run.plan.world_size, run.train.manifest
    parameters = sum(weight.numel() for weight in run.bare.parameters())
    lines = [
        f"{run.config.model.name} ({parameters / 1e6:.1f} M parameters) on "
        f"{world} process{'es' * (world > 1)}, {run.view.device.type}, "
        f"precision {run.accelerator.mixed_precision}: "
        f"{len(run.train):,} train and {len(run.val):,} val pictures, "
        f"{len(manifest.class_ids)} classes, {run.plan.updates:,} updates → {run.folder}"
    ]
    if run.not_loaded:
        lines.append(f"not in the pretrained weights, started fresh: {', '.join(run.not_loaded)}")
    if progress.update:
        lines.append(f"going on after update {progress.update:,} of {run.plan.updates:,}")
    return "\n".join(lines)


def epoch_line(run: Run, progress: Progress, scores: Scores, train_means: dict[str, float]) -> str:
    """One line per evaluation for people."""
    epoch = progress.update / max(1, run.plan.updates_per_epoch)
    trained = (
        f"train loss {train_means['loss']:.3f}, top-1 {train_means['top1']:.1f} %; "
        if train_means
        else ""
    )
    return (
        f"epoch {epoch:g}/{run.config.epochs:g}: {trained}val loss {scores.loss:.3f}, "
        f"top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} %  [{progress.seconds:.0f} s]"
    )


def final_line(run: Run, scores: Scores, flipped: Scores | None) -> str:
    """The last line of a run: what came out, and where it lies."""
    apart = f" (with mirror images {flipped.top1:.2f} and {flipped.top5:.2f} %)" if flipped else ""
    return (
        f"top-1 {scores.top1:.2f} %, top-5 {scores.top5:.2f} %{apart} "
        f"on {scores.samples:,} pictures; all of the run is in {run.folder}"
    )


def chance_warning(scores: Scores, train_top1: float, classes: int) -> str | None:
    """Say so when val accuracy sits at chance while train accuracy does not."""
    chance = 100 / classes
    if train_top1 > 5 * chance and scores.top1 < 2 * chance:
        return (
            f"WARNING: val accuracy {scores.top1:.2f} % is chance ({chance:.2f} %) while train "
            f"accuracy is {train_top1:.1f} %: the val labels are probably wrong; look at them with "
            "`python launch/pack.py --inspect DIR`"
        )
    return None


def summarise(
    run: Run, progress: Progress, results: tuple[Scores, Scores | None], command: str
) -> dict[str, Any]:
    """``summary.json``: final scores, without and with mirror images, and how to make them."""
    scores, flipped = results
    official = run.config.protocol == "official"
    weights = run.folder / "checkpoints" / ("last" if run.plan.updates and official else "best")
    samples = run.plan.updates * run.plan.global_batch_size
    return {
        **asdict(scores),
        "flipped": asdict(flipped) if flipped else None,
        "protocol": run.config.protocol,
        "train_samples": len(run.train),
        "best": progress.best,
        "seconds": round(progress.seconds, 1),
        "images_per_second": round(samples / progress.seconds, 1),
        "weights_sha256": checkpoints.sha256(weights / checkpoints.MODEL),
        "processes": run.plan.world_size,
        "device": device_name(run.view.device),
        "versions": {name: version(name) for name in ("tinynet", "torch", "accelerate", "timm")}
        | {"python": platform.python_version()},
        "command": command,
    }


def device_name(device: torch.device) -> str:
    """What the run ran on, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
