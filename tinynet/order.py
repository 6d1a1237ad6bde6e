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


class Share(NamedTuple):
    """One rank's part of a global batch: ``sample_ids`` (n,) and draws by name, each (n,)."""

    sample_ids: Tensor
    draws: dict[str, Tensor]


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

    def share(self, update: int, micro_batch: int, draw: Sequence[str] = ()) -> Share:
        """What this rank is shown in one micro-batch; ``draw`` names the uniform draws to make.

        Draws are float32 in [0, 1). Each name has its own stream: a new augmentation does not
        change the draws of the others.
        """
        epoch, batch = divmod(update, self.updates_per_epoch)
        first = (micro_batch * self.world_size + self.rank) * self.share_size
        positions = slice(first, first + self.share_size)
        start = batch * self.global_batch_size
        order = permutation(self.seed, epoch, self.samples)
        global_batch = order[start : start + self.global_batch_size]
        draws = {
            name: torch.rand(
                self.global_batch_size, generator=generator(self.seed, name, epoch, batch)
            )[positions]
            for name in draw
        }
        return Share(global_batch[positions], draws)

    def shares(self, first_update: int, draw: Sequence[str] = ()) -> Iterator[Share]:
        """All shares of this rank from an update on: ``accumulation`` of them per update."""
        for update in range(first_update, self.updates):
            for micro_batch in range(self.accumulation):
                yield self.share(update, micro_batch, draw)


def evaluation_range(samples: int, world_size: int, rank: int) -> range:
    """The consecutive sample ids that a rank evaluates; together every id exactly once."""
    return range(samples * rank // world_size, samples * (rank + 1) // world_size)
