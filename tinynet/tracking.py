"""Rank zero's voice: the console, the run's folder, and Weights & Biases.

Takes numbers, figures and tables by name and knows what none of them means. On the other ranks a
tracker has no places to write to, so nobody has to ask which rank it is on.
"""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from tinynet.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = "metrics.jsonl"
MAX_ROWS = 10_000  # of a W&B table
SECONDS_BETWEEN_LINES = 60.0  # about the progress, where no bar can be shown

Numbers = Mapping[str, "float | int | Tensor"]
Cell = str | float | int | None | np.ndarray


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """Which W&B run to write; ``auto`` is online if logged in, else offline."""

    mode: Literal["auto", "online", "offline", "disabled"]
    project: str
    name: str
    id: str


class RunFolder:
    """``metrics.jsonl``, ``plots/NAME.png`` and ``tables/NAME.csv`` in the run's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._metrics = (folder / METRICS).open("a")

    def log(self, kind: str, values: dict[str, float]) -> None:
        """Append a line; NaN and infinity become null, which JSON can hold."""
        line = {"kind": kind, **{name: _json_number(value) for name, value in values.items()}}
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()

    def figure(self, name: str, png: bytes) -> None:
        """Save the picture."""
        write_whole(self._folder / "plots" / f"{name}.png", png)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Save the table without its pictures."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(
            ["" if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows
        )
        write_whole(self._folder / "tables" / f"{name}.csv", text.getvalue())

    def summary(self, values: Mapping[str, Any]) -> None:
        """Nothing: who trains writes its own summary file."""

    def close(self, failed: bool) -> None:  # noqa: ARG002
        """Close the file."""
        self._metrics.close()


class Wandb:
    """One run on Weights & Biases. Whatever fails is said once, and W&B is left alone after."""

    def __init__(
        self,
        folder: Path,
        settings: WandbSettings,
        config: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._run: Any = None
        self._failed = False
        self._say = say
        self._try(lambda: self._open(folder, settings, config))

    def log(self, kind: str, values: dict[str, float]) -> None:
        """Log the numbers as ``KIND/NAME``; ``samples`` is the x axis of all."""
        numbers = {
            name if name == "samples" else f"{kind}/{name}": value for name, value in values.items()
        }
        self._try(lambda: self._run.log(numbers))

    def figure(self, name: str, png: bytes) -> None:
        """Log the picture."""

        def log() -> None:
            from PIL import Image
            from wandb import Image as WandbImage

            self._run.log({name: WandbImage(Image.open(io.BytesIO(png)))})

        self._try(log)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Log the first 10,000 rows, pictures included."""

        def log() -> None:
            from wandb import Image, Table

            data = [
                [Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row]
                for row in rows[:MAX_ROWS]
            ]
            self._run.log({name: Table(columns=list(columns), data=data)})

        self._try(log)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the results of the run."""
        self._try(lambda: self._run.summary.update(dict(values)))

    def close(self, failed: bool) -> None:
        """End the run; gives up on an upload that takes minutes, whose data stay on the disk."""
        self._try(lambda: self._run.finish(exit_code=int(failed)))

    def _open(self, folder: Path, settings: WandbSettings, config: dict[str, Any]) -> None:
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))
        mode = _automatic_mode() if settings.mode == "auto" else settings.mode
        self._run = wandb.init(
            project=settings.project,
            name=settings.name,
            id=settings.id,
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=str(folder),
            config=config,
            # Nothing of the machine, the command line or the checkout goes to W&B unasked.
            settings=wandb.Settings(
                silent=True,
                console="off",
                host="",
                init_timeout=60,
                finish_timeout=300,
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        self._run.define_metric("samples", hidden=True)
        self._run.define_metric("*", step_metric="samples")

    def _try(self, action: Callable[[], None]) -> None:
        """W&B is a guest: none of its troubles may end a training."""
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self._failed = True
            reason = str(error).strip().split("\n")[0]
            self._say(
                "WARNING: Weights & Biases failed and is left out from here on "
                f"({type(error).__name__}: {reason})"
            )


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


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics, in the order of writing, but for one cut off by a crash."""
    path, lines = folder / METRICS, []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def trim_metrics(folder: Path, update: int) -> None:
    """Forget the lines that a killed run wrote after the checkpoint it goes on from.

    Training lines up to ``update`` stay; evaluations at ``update`` go too, since they are done
    again. A last line that was cut off goes.
    """
    if (folder / METRICS).exists():
        lines = read_metrics(folder)
        kept = [line for line in lines if line["update"] < update + (line["kind"] == "train")]
        write_whole(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))


def _automatic_mode() -> Literal["online", "offline", "disabled"]:
    """What WANDB_MODE says; without it online if wandb has a key on this host, else offline."""
    import wandb

    # No public function looks for a key without asking the user or the network.
    from wandb.sdk.lib.wbauth import authenticate_session

    settings = wandb.setup().settings
    if settings.mode in ("offline", "disabled"):
        return settings.mode
    host, source = settings.base_url, "tinynet"
    known = authenticate_session(host=host, source=source, prompt=False, update_session=False)
    return "online" if known else "offline"


def _json_number(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


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
