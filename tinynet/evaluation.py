"""Every sample scored exactly once, on any number of ranks, and proof of it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tinynet.batches import Batch
from tinynet.errors import UserError
from tinynet.files import write_whole_with


@dataclass(frozen=True)
class Predictions:
    """A model's answers for a whole split, in order of sample id.

    ``sample_ids`` int64 (n,), 0 … n-1; ``labels`` int64 (n,); ``logits`` float32 (n, classes);
    all on the CPU.
    """

    sample_ids: Tensor
    labels: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Scores:
    """``top1`` and ``top5`` in percent, ``loss`` the mean over ``samples``."""

    top1: float
    top5: float
    loss: float
    samples: int


def predict(
    model: nn.Module,
    batches: Iterator[Batch],
    autocast: AbstractContextManager[None],
    nothing: tuple[Tensor, Tensor, Tensor],
    flip: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sample ids, labels and float32 logits of this rank's batches, on the device.

    ``nothing`` is the answer of a rank without batches. ``model`` is the bare one: the forward
    pass of DDP talks to other ranks, which may have no batch left. With ``flip`` the logits are
    the mean of those of a picture and of its mirror image. Nothing here waits for the device.
    """
    was_training = model.training
    model.eval()
    parts = [nothing]
    with torch.inference_mode(), autocast:
        for batch in batches:
            logits = model(batch.images).float()
            if flip:
                logits = (logits + model(batch.images.flip(3)).float()) / 2
            parts.append((batch.sample_ids, batch.targets, logits))
    model.train(was_training)
    ids, labels, logits = zip(*parts, strict=True)
    return torch.cat(ids), torch.cat(labels), torch.cat(logits)


def assemble(sample_ids: Tensor, labels: Tensor, logits: Tensor, samples: int) -> Predictions:
    """Put the gathered answers of all ranks in order of sample id; negative ids are padding.

    Raises ``ValueError`` unless every id of the split is there exactly once.
    """
    real = sample_ids >= 0
    order = sample_ids[real].argsort()
    ids = sample_ids[real][order].cpu()
    if not torch.equal(ids, torch.arange(samples)):
        seen = torch.bincount(ids, minlength=samples)
        raise ValueError(
            f"evaluation did not score every sample once: {int((seen == 0).sum())} missing, "
            f"{int((seen > 1).sum())} more than once"
        )
    return Predictions(ids, labels[real][order].cpu(), logits[real][order].cpu())


def score(predictions: Predictions, loss: Callable[[Tensor, Tensor], Tensor]) -> Scores:
    """Top-1, top-5 and loss of exact predictions."""
    top1, top5 = accuracies(predictions.logits, predictions.labels)
    return Scores(
        top1=top1.item(),
        top5=top5.item(),
        loss=loss(predictions.logits, predictions.labels).mean().item(),
        samples=len(predictions.labels),
    )


def accuracies(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Top-1 and top-5 in percent, as 0-dim tensors on the device; with up to five classes 100.

    A sample counts if fewer than one (five) classes have a higher logit than its label, a tie
    counting as higher when the class comes first. NaN logits are wrong.
    """
    own = logits.gather(1, labels[:, None])
    index = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > own) | ((logits == own) & (index < labels[:, None]))
    rank = ahead.sum(1).masked_fill(own.isnan().squeeze(1), logits.shape[1])
    top1 = (rank < 1).float().mean() * 100
    top5 = (rank < min(5, logits.shape[1])).float().mean() * 100
    return top1, top5


def pad(tensor: Tensor, length: int, value: int = 0) -> Tensor:
    """Lengthen axis 0 to ``length``, so that ranks with fewer samples can be gathered."""
    return F.pad(tensor, (0, 0) * (tensor.ndim - 1) + (0, length - len(tensor)), value=value)


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write to a safetensors file, whole or not at all."""
    tensors = {
        "sample_ids": predictions.sample_ids,
        "labels": predictions.labels,
        "logits": predictions.logits.contiguous(),
    }
    write_whole_with(path, lambda aside: save_file(tensors, aside))


def load_predictions(path: Path) -> Predictions:
    """Read what ``save_predictions`` wrote; ``UserError`` if it is not there or damaged."""
    try:
        return Predictions(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise UserError(f"{path} holds no predictions ({error}): evaluate the run again") from None
