"""Rank zero's voice: the console, the run's folder, and Weights & Biases.

Takes numbers, figures and tables by name and knows what none of them means. On the other ranks a
tracker has no places to write to, so nobody has to ask which rank it is on.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from tinynet.tracking.sinks import (
    Cell,
    RunFolder,
    Wandb,
    WandbSettings,
    read_metrics,
    trim_metrics,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Cell", "Tracker", "WandbSettings", "open_tracker", "read_metrics", "trim_metrics"]

SECONDS_BETWEEN_LINES = 60.0  # about the progress, where no bar can be shown

Numbers = Mapping[str, "float | int | Tensor"]


class Tracker:
    """Passes everything on to its sinks; silent without sinks and console."""

    def __init__(self, sinks: Sequence[RunFolder | Wandb], console: Console | None) -> None:
        self._sinks = sinks
        self._console = console
        self._bar = _progress_bar(console) if console is not None else None
        self._said = time.monotonic()
        self._pending: tuple[str, dict[str, float | Tensor], torch.cuda.Event | None] | None = None

    def say(self, text: str) -> None:
        """Print a line for people."""
        if self._console is not None:
            _print(self._console, text)

    def progress(self, total: int, done: int) -> None:
        """Show a bar of ``total`` images, ``done`` of them in an earlier start of the run.

        Where the output is no terminal, a line a minute takes its place.
        """
        if self._bar is not None and total > done:
            self._bar.add_task("training", total=total, completed=done, before=done)
            self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar by ``count`` images."""
        if self._bar is None or not self._bar.tasks:
            return
        task = self._bar.tasks[0]
        self._bar.advance(task.id, count)
        if self._bar.disable and time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            speed = _images_per_second(task)
            minutes = (task.remaining or 0) / max(speed, 1e-9) / 60
            self.say(f"{task.percentage:.0f} %, {speed:,.0f} images/s, {minutes:.0f} min left")

    def log(self, kind: str, values: Numbers) -> None:
        """Write a line of numbers; 0-dim tensors are read without making the host wait.

        Tensors on a CUDA device are copied in the background (to pinned memory) and their line is
        written at the next call of ``log``, ``figure`` or ``flush``. On every other device the
        line is written at once.
        """
        self.flush()
        if not self._sinks:
            return
        event = None
        held: dict[str, float | Tensor] = {}
        for name, value in values.items():
            if isinstance(value, Tensor) and value.is_cuda:
                held[name] = value.detach().to("cpu", non_blocking=True)
                event = torch.cuda.Event()
                event.record()
            else:
                held[name] = value
        self._pending = kind, held, event
        if event is None:
            self.flush()

    def flush(self) -> None:
        """Write the line that was held back."""
        if self._pending is None:
            return
        (kind, values, event), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        numbers = {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        for sink in self._sinks:
            sink.log(kind, numbers)

    def figure(self, name: str, draw: "Callable[[], Figure]") -> None:
        """Draw a figure, where there is somewhere to put it."""
        self.flush()  # what is drawn may be the lines logged so far
        if self._sinks:
            buffer = io.BytesIO()
            draw().savefig(buffer, format="png", dpi=130)
            for sink in self._sinks:
                sink.figure(name, buffer.getvalue())

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Write a table; a cell may be a uint8 picture (H, W, C).

        The cells of a column are all of one kind or ``None``: W&B takes no others.
        """
        for sink in self._sinks:
            sink.table(name, columns, rows)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write the results of the run."""
        for sink in self._sinks:
            sink.summary(values)

    def close(self, failed: bool) -> None:
        """Take the bar away, write what is held back and end all sinks."""
        if self._bar is not None:
            self._bar.stop()
        try:
            self.flush()
        finally:
            for sink in self._sinks:
                sink.close(failed)


@contextmanager
def open_tracker(
    folder: Path, *, main: bool, wandb: WandbSettings, config: dict[str, Any]
) -> Iterator[Tracker]:
    """A tracker for the run in ``folder``; it writes nothing unless ``main``."""
    if not main:
        yield Tracker((), None)
        return
    console = Console()
    sinks: list[RunFolder | Wandb] = [RunFolder(folder)]
    if wandb.mode != "disabled":
        sinks.append(Wandb(folder, wandb, config, lambda text: _print(console, text)))
    tracker = Tracker(sinks, console)
    failed = True
    try:
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _images_per_second(task: Task) -> float:
    """Since this start of the run."""
    return (task.completed - task.fields["before"]) / task.elapsed if task.elapsed else 0.0


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{_images_per_second(task):,.0f} images/s")


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
