"""Who sees what, when: pure functions of the seed, the same for any number of ranks.

The training samples of an epoch are one permutation of the split, cut into global batches. A
global batch is cut into ``accumulation × world_size`` equal shares; rank ``r`` takes share
``micro_batch × world_size + r``. Samples and random draws belong to a *position* in the global
batch, so neither the number of ranks nor a restart changes what the model is shown.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from tinynet.errors import UserError


def generator(*words: object) -> torch.Generator:
    """A CPU generator whose stream depends on ``words`` (seed, epoch, …) and on nothing else."""
    digest = hashlib.blake2b(repr(words).encode(), digest_size=8).digest()
    # 63 bits: manual_seed refuses larger numbers.
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of an epoch: int64 (samples,), every id once. Cached; do not write to it."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))


@lru_cache(maxsize=4)
def alternating(seed: int, name: str, epoch: int, samples: int) -> Tensor:
    """Draws float32 (samples,) by sample id: random in the first epoch, then half way round.

    A sample mirrored in one epoch is not in the next, as in airbench (arXiv:2404.00498).
    """
    first = torch.rand(samples, generator=generator(seed, name, "alternating"))
    return (first + 0.5 * (epoch % 2)) % 1


def hold_out(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sample ids to train on and to choose by, each int64 and ascending; a tenth of every class.

    The choice depends on ``labels``, int64 (n,), alone: all runs hold out the same samples.
    """
    shuffled = torch.randperm(len(labels), generator=generator("holdout"))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    held = place < (counts // 10).repeat_interleave(counts)
    return by_class[~held].sort().values, by_class[held].sort().values


class Draw(NamedTuple):
    """One random number in [0, 1) per sample; each name has its own stream of them."""

    name: str
    alternating: bool = False


Draws = dict[str, Tensor]
"""float32 (n,) by name."""


class Share(NamedTuple):
    """One rank's part of a global batch: ``sample_ids`` int64 (n,) and the draws, each (n,)."""

    sample_ids: Tensor
    draws: Draws


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The whole training, decided before it starts. All ranks make ``updates`` updates.

    An epoch has ``samples // global_batch_size`` updates; the few samples left over are others
    in every epoch. ``epochs`` may be a fraction.
    Raises ``UserError`` if the global batch cannot be shared out equally.
    """

    seed: int
    samples: int
    epochs: float
    global_batch_size: int
    world_size: int = 1
    rank: int = 0
    accumulation: int = 1

    def __post_init__(self) -> None:
        shares = self.world_size * self.accumulation
        if self.global_batch_size % shares:
            near = max(1, round(self.global_batch_size / shares)) * shares
            raise UserError(
                f"--global_batch_size {self.global_batch_size} cannot be shared by "
                f"{self.world_size} ranks × {self.accumulation} accumulation steps: "
                f"use a multiple of {shares}, such as {near}"
            )
        if self.global_batch_size > self.samples and self.epochs > 0:
            raise UserError(
                f"--global_batch_size {self.global_batch_size} is more than the "
                f"{self.samples} training samples: make it smaller"
            )

    @property
    def updates_per_epoch(self) -> int:
        """Whole global batches in one pass over the split."""
        return self.samples // self.global_batch_size

    @property
    def updates(self) -> int:
        """Updates of the whole training."""
        return round(self.epochs * self.updates_per_epoch)

    @property
    def share_size(self) -> int:
        """Samples of one forward and backward pass on one rank."""
        return self.global_batch_size // (self.world_size * self.accumulation)

    def share(self, update: int, micro_batch: int, wanted: Sequence[Draw] = ()) -> Share:
        """What this rank is shown in one micro-batch, with the ``wanted`` draws.

        A new augmentation does not change the draws of the others.
        """
        epoch, batch = divmod(update, self.updates_per_epoch)
        first = (micro_batch * self.world_size + self.rank) * self.share_size
        start = batch * self.global_batch_size
        order = permutation(self.seed, epoch, self.samples)
        sample_ids = order[start + first : start + first + self.share_size]
        draws = {}
        for name, alternates in wanted:
            if alternates:
                draws[name] = alternating(self.seed, name, epoch, self.samples)[sample_ids]
            else:
                stream = generator(self.seed, name, epoch, batch)
                whole = torch.rand(self.global_batch_size, generator=stream)
                draws[name] = whole[first : first + self.share_size]
        return Share(sample_ids, draws)

    def shares(self, first_update: int, wanted: Sequence[Draw] = ()) -> Iterator[Share]:
        """All shares of this rank from an update on: ``accumulation`` of them per update."""
        for update in range(first_update, self.updates):
            for micro_batch in range(self.accumulation):
                yield self.share(update, micro_batch, wanted)


def evaluation_range(samples: int, world_size: int, rank: int) -> range:
    """The consecutive sample ids that a rank evaluates; together every id exactly once."""
    return range(samples * rank // world_size, samples * (rank + 1) // world_size)
