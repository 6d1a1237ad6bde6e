"""Split and plan to batches on the device, prepared ahead by a thread."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from tinynet.augmentation import augment, draws_of
from tinynet.config import Augmentation
from tinynet.mixing import Mixed, mix, mixing_draws, partners_of
from tinynet.normalisation import crop_and_normalise, normalise, resize
from tinynet.order import Draws, Plan
from tinynet.shards import Split

AHEAD = 1
"""Batches in the making while one is used."""

CHUNK = 64
"""Pictures that a CPU takes through all steps at once: as many as fit into its caches."""


@dataclass(frozen=True)
class Batch:
    """``images`` float32 or bfloat16 (n, C, H, W) channels_last, ``targets`` and ``sample_ids``
    int64 (n,); ``mixed`` if the pictures are mixed with others.

    On a CPU the memory of ``images`` is used again: they are good until the next batch is taken.
    """

    images: Tensor
    targets: Tensor
    sample_ids: Tensor
    mixed: Mixed | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """How pictures are shown to the model: normalised with these numbers, at this size, as this
    type, there."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    device: torch.device
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Order:
    """One batch to be made: samples in the order of their ids, their draws, their partners."""

    sample_ids: Tensor
    image_size: int
    draws: Draws
    partners: Tensor | None = None


def training_batches(
    split: Split,
    plan: Plan,
    settings: Augmentation,
    view: View,
    first_update: int = 0,
    size_at: Callable[[int], int] | None = None,
) -> Iterator[Batch]:
    """The micro-batches of this rank from an update on, ``plan.accumulation`` per update.

    ``size_at`` gives the pictures' size at an update, if it is not always that of the view.
    """
    mixing = mixing_draws(settings)

    def orders() -> Iterator[Order]:
        # Ascending ids are read straight from the map; within a share the order means nothing.
        shares = plan.shares(first_update, (*draws_of(settings), *mixing))
        for micro_batch, share in enumerate(shares, first_update * plan.accumulation):
            size = size_at(micro_batch // plan.accumulation) if size_at else view.image_size
            ids, order = share.sample_ids.sort()
            draws = {name: draw[order] for name, draw in share.draws.items()}
            yield Order(ids, size, draws, partners_of(order) if mixing else None)

    return _batches(split, orders(), settings, view)


def evaluation_batches(
    split: Split, sample_ids: range, batch_size: int, view: View
) -> Iterator[Batch]:
    """The given samples in order, unaugmented; the last batch may be smaller."""
    stop = sample_ids.stop
    orders = (
        Order(torch.arange(first, min(first + batch_size, stop)), view.image_size, {})
        for first in range(sample_ids.start, stop, batch_size)
    )
    return _batches(split, orders, Augmentation(flip="none", crop_padding=0), view)


def _batches(
    split: Split, orders: Iterator[Order], settings: Augmentation, view: View
) -> Iterator[Batch]:
    mean = torch.tensor(view.mean, device=view.device)
    stager = Stager(view)

    def prepare(order: Order) -> Callable[[], Batch]:
        ids, count = order.sample_ids, len(order.sample_ids)
        with stager:
            images = stager.images(count, order.image_size, split.manifest.image_shape[2])
            draws = {name: stager.move(draw) for name, draw in order.draws.items()}
            pixels = stager.pixels(split, ids)

            def fill(rows: slice) -> None:
                shown = {name: draw[rows] for name, draw in draws.items()}
                same_size = images.shape[1:] == pixels.shape[1:]
                channels = (view.mean, view.std)
                if same_size and crop_and_normalise(
                    pixels[rows], shown, settings, channels, images[rows]
                ):
                    return
                augmented = resize(augment(pixels[rows], shown, settings, mean), order.image_size)
                normalise(augmented, view.mean, view.std, images[rows])

            stager.by_chunk(fill, count)
            targets = stager.move(split.labels[ids])
            mixed = None
            if order.partners is not None:
                partners = stager.move(order.partners)
                images, share = mix(images, draws, partners, settings)
                mixed = Mixed(targets[partners], share)
            batch = Batch(images.permute(0, 3, 1, 2), targets, stager.move(ids), mixed)
        return stager.handover(batch)

    with stager.threads, ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        ahead = deque(thread.submit(prepare, order) for order in islice(orders, AHEAD))
        while ahead:
            batch = ahead.popleft().result()()
            ahead.extend(thread.submit(prepare, order) for order in islice(orders, 1))
            yield batch


class Stager:
    """Moves batches to the device, and owns the memory they pass through.

    On CUDA: two pinned buffers take turns, one being filled again only when the copy out of it has
    ended, and a stream of its own works beside the training. On the CPU: pictures are written to
    where they stay, in buffers that are used again when their batch has been left behind, since
    new memory costs as much as half of the work.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._device = view.device
        self._cuda = view.device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if self._cuda else None
        self._context = torch.cuda.stream(self._stream)
        self._pinned: deque[tuple[Tensor, torch.cuda.Event]] = deque()
        self._images: deque[Tensor] = deque(maxlen=AHEAD + 1)
        self._scratch = torch.empty(0, dtype=torch.uint8)
        # Each with one thread for torch's own loops: a chunk is too small to be shared out, two
        # threads took four times as long as one.
        self.threads = ThreadPoolExecutor(
            torch.get_num_threads(), "batches", initializer=torch.set_num_threads, initargs=(1,)
        )

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)

    def by_chunk(self, fill: Callable[[slice], None], count: int) -> None:
        """Let ``fill`` work on all rows of a batch: at once on CUDA, by chunks on the CPU."""
        if self._cuda:
            fill(slice(0, count))
            return
        chunks = [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]
        # list() waits for all and lets the first error through.
        list(self.threads.map(fill, chunks))

    def images(self, count: int, size: int, channels: int) -> Tensor:
        """Room for a batch on the device: (count, size, size, C) of the view's type."""
        shape = (count, size, size, channels)
        if self._cuda:
            return torch.empty(shape, dtype=self._view.dtype, device=self._device)
        oldest = self._images[0] if len(self._images) > AHEAD else None
        if oldest is None or len(oldest) < count or oldest.shape[1] != size:
            self._images.append(torch.empty(shape, dtype=self._view.dtype))
        else:
            self._images.rotate(-1)
        return self._images[-1][:count]

    def pixels(self, split: Split, sample_ids: Tensor) -> Tensor:
        """The samples' pixels on the device, uint8 (n, H, W, C)."""
        if split.resident is not None:
            return split.resident.index_select(0, self.move(sample_ids))
        shape = (len(sample_ids), *split.manifest.image_shape)
        if not self._cuda:
            if len(self._scratch) < len(sample_ids):
                self._scratch = torch.empty(shape, dtype=torch.uint8)
            return split.read(sample_ids, self._scratch[: len(sample_ids)])
        if len(self._pinned) < 2 or len(self._pinned[0][0]) < len(sample_ids):
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._pinned.append((pinned, torch.cuda.Event()))
        else:
            self._pinned.rotate(-1)
            self._pinned[-1][1].synchronize()
        pinned, copied = self._pinned[-1]
        pixels = self.move(split.read(sample_ids, pinned[: len(sample_ids)]))
        copied.record(self._stream)
        return pixels

    def move(self, tensor: Tensor) -> Tensor:
        """To the device, without waiting for it."""
        if not self._cuda:
            return tensor
        pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
        return pinned.to(self._device, non_blocking=True)

    def handover(self, batch: Batch) -> Callable[[], Batch]:
        """A function for the consumer: its stream waits for this batch, its host does not."""
        if not self._cuda:
            return lambda: batch
        ready = torch.cuda.Event()
        ready.record(self._stream)

        def receive() -> Batch:
            consumer = torch.cuda.current_stream(self._device)
            consumer.wait_event(ready)
            for tensor in (batch.images, batch.targets, batch.sample_ids, *(batch.mixed or ())):
                tensor.record_stream(consumer)
            return batch

        return receive
