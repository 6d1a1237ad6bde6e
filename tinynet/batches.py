"""Split and plan to batches on the device, prepared one ahead by a thread."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from tinynet.augmentation import augment, draws_of, normalise, resize, to_float
from tinynet.config import Augmentation
from tinynet.order import Plan
from tinynet.shards import Split

Draws = dict[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """``images`` float (n, C, H, W) channels_last, ``targets`` and ``sample_ids`` int64 (n,)."""

    images: Tensor
    targets: Tensor
    sample_ids: Tensor


@dataclass(frozen=True, kw_only=True)
class View:
    """How pictures are shown to the model: normalised with these numbers, at this size, there."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    device: torch.device


def training_batches(
    split: Split, plan: Plan, augmentation: Augmentation, view: View, first_update: int = 0
) -> Iterator[Batch]:
    """The micro-batches of this rank from an update on, ``plan.accumulation`` per update."""
    # Ascending ids are read straight from the map; within a share the order means nothing.
    shares = (
        (ids, {name: draw[order] for name, draw in share.draws.items()})
        for share in plan.shares(first_update, draws_of(augmentation))
        for ids, order in [share.sample_ids.sort()]
    )
    return _batches(split, shares, view, lambda im, draws: augment(im, draws, augmentation))


def evaluation_batches(
    split: Split, sample_ids: range, batch_size: int, view: View
) -> Iterator[Batch]:
    """The given samples in order, unaugmented; the last batch may be smaller."""
    stop = sample_ids.stop
    shares: Iterator[tuple[Tensor, Draws]] = (
        (torch.arange(first, min(first + batch_size, stop)), {})
        for first in range(sample_ids.start, stop, batch_size)
    )
    return _batches(split, shares, view, lambda images, _: to_float(images))


def _batches(
    split: Split,
    shares: Iterator[tuple[Tensor, Draws]],
    view: View,
    to_floats: Callable[[Tensor, Draws], Tensor],
) -> Iterator[Batch]:
    device = view.device
    mean, std = (torch.tensor(values, device=device) for values in (view.mean, view.std))
    stager = Stager(device)

    def prepare(share: tuple[Tensor, Draws]) -> Callable[[], Batch]:
        sample_ids, draws = share
        with stager:
            images = stager.move(split.gather(sample_ids, stager.buffer(split, len(sample_ids))))
            draws = {name: stager.move(draw) for name, draw in draws.items()}
            floats = resize(to_floats(images, draws), view.image_size)
            batch = Batch(
                normalise(floats, mean, std),
                stager.move(split.labels[sample_ids]),
                stager.move(sample_ids),
            )
        return stager.handover(batch)

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        ahead = deque(thread.submit(prepare, share) for share in _take(shares, 2))
        while ahead:
            batch = ahead.popleft().result()()
            ahead.extend(thread.submit(prepare, share) for share in _take(shares, 1))
            yield batch


class Stager:
    """Moves batches to the device: pinned buffers and a stream of its own on CUDA, nothing on CPU.

    Two buffers take turns; one is filled again only when the copy out of it has ended.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._cuda else None
        self._context = torch.cuda.stream(self._stream)
        self._buffers: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)

    def buffer(self, split: Split, count: int) -> Tensor | None:
        """A pinned uint8 (count, H, W, C) that no copy reads any more; None on the CPU."""
        if not self._cuda:
            return None
        if len(self._buffers) < 2 or len(self._buffers[0][0]) < count:
            shape = (count, *split.manifest.image_shape)
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._buffers.append((pinned, torch.cuda.Event()))
        else:
            self._buffers.rotate(-1)
            self._buffers[-1][1].synchronize()
        return self._buffers[-1][0][:count]

    def move(self, tensor: Tensor) -> Tensor:
        """To the device, without waiting for it."""
        if not self._cuda:
            return tensor
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        moved = pinned.to(self._device, non_blocking=True)
        self._buffers[-1][1].record(self._stream)
        return moved

    def handover(self, batch: Batch) -> Callable[[], Batch]:
        """A function for the consumer: its stream waits for this batch, its host does not."""
        if not self._cuda:
            return lambda: batch
        ready = torch.cuda.Event()
        ready.record(self._stream)

        def receive() -> Batch:
            consumer = torch.cuda.current_stream(self._device)
            consumer.wait_event(ready)
            for tensor in (batch.images, batch.targets, batch.sample_ids):
                tensor.record_stream(consumer)
            return batch

        return receive


def _take(shares: Iterator[tuple[Tensor, Draws]], count: int) -> Iterator[tuple[Tensor, Draws]]:
    for _, share in zip(range(count), shares, strict=False):
        yield share
