"""Rank zero's voice: the console, the run's folder, and Weights & Biases.

Takes numbers, figures and tables by name and knows what none of them means. On the other ranks a
tracker has no places to write to, so nobody has to ask which rank it is on.
"""

import csv
import io
import json
import math
import netrc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlparse

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

Numbers = Mapping[str, "float | int | Tensor"]
Cell = str | float | int | None | np.ndarray


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """Which W&B run to write; ``auto`` is online if logged in, else offline."""

    mode: Literal["auto", "online", "offline", "disabled"]
    project: str
    name: str
    id: str


class Sink(Protocol):
    """A place that things are written to."""

    def log(self, kind: str, values: dict[str, float]) -> None:
        """Take one line of numbers."""

    def figure(self, name: str, png: bytes) -> None:
        """Take one picture."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Take one table."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Take the results of the run."""

    def close(self, failed: bool) -> None:
        """End."""


class Tracker:
    """Passes everything on to its sinks; silent without sinks and console."""

    def __init__(self, sinks: Sequence[Sink], console: Console | None) -> None:
        self._sinks = sinks
        self._console = console
        self._bar = _progress_bar(console) if console is not None else None
        self._pending: tuple[str, dict[str, float | Tensor], torch.cuda.Event | None] | None = None

    def say(self, text: str) -> None:
        """Print a line for people."""
        if self._console is not None:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, total: int, done: int) -> None:
        """Show a bar of ``total`` images, ``done`` of them in an earlier start of the run."""
        if self._bar is not None and total > done:
            self._bar.add_task("training", total=total, completed=done, before=done)
            self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar by ``count`` images."""
        if self._bar is not None and self._bar.tasks:
            self._bar.advance(self._bar.tasks[0].id, count)

    def log(self, kind: str, values: Numbers) -> None:
        """Write a line of numbers; 0-dim tensors are read without making the host wait.

        Tensors on a CUDA device are copied in the background and their line is written at the
        next call. On every other device the line is written at once.
        """
        self.flush()
        if not self._sinks:
            return
        event = None
        held: dict[str, float | Tensor] = {}
        for name, value in values.items():
            if isinstance(value, Tensor) and value.is_cuda:
                held[name] = value.to("cpu", non_blocking=True)
                event = torch.cuda.Event()
                event.record()
            else:
                held[name] = float(value) if isinstance(value, Tensor) else value
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
        if self._sinks:
            buffer = io.BytesIO()
            draw().savefig(buffer, format="png", dpi=130)
            for sink in self._sinks:
                sink.figure(name, buffer.getvalue())

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Write a table; a cell may be a uint8 picture (H, W, C)."""
        for sink in self._sinks:
            sink.table(name, columns, rows)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write the results of the run."""
        for sink in self._sinks:
            sink.summary(values)

    def stop_bar(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def close(self, failed: bool) -> None:
        """Write what is held back and end all sinks."""
        self.stop_bar()
        self.flush()
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
    sinks: list[Sink] = [RunFolder(folder)]
    if wandb.mode != "disabled":
        sinks.append(Wandb(folder, wandb, config, console))
    tracker = Tracker(sinks, console)
    failed = True
    try:
        yield tracker
        failed = False
    finally:
        tracker.close(failed)


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
        self, folder: Path, settings: WandbSettings, config: dict[str, Any], console: Console
    ) -> None:
        self._run: Any = None
        self._console = console
        self._try(lambda: self._open(folder, settings, config))

    def log(self, kind: str, values: dict[str, float]) -> None:
        """Log the numbers as ``KIND/NAME``; ``samples`` is the x axis of all."""
        numbers = {f"{kind}/{name}": value for name, value in values.items() if name != "samples"}
        self._try(lambda: self._run.log({**numbers, "samples": values.get("samples", 0)}))

    def figure(self, name: str, png: bytes) -> None:
        """Log the picture."""
        from PIL import Image
        from wandb import Image as WandbImage

        self._try(lambda: self._run.log({name: WandbImage(Image.open(io.BytesIO(png)))}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Log the first rows of the table, pictures included."""
        from wandb import Image, Table

        def log() -> None:
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
        """End the run."""
        self._try(lambda: self._run.finish(exit_code=int(failed)))

    def _open(self, folder: Path, settings: WandbSettings, config: dict[str, Any]) -> None:
        import wandb

        mode = settings.mode
        if mode == "auto":
            mode = "online" if _logged_in(wandb.setup().settings) else "offline"
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
        if self._run is None and self._failed:
            return
        try:
            action()
        except Exception as error:
            self._run, self._failed = None, True
            reason = str(error).strip().split("\n")[0]
            self._console.print(
                f"WARNING: Weights & Biases failed and is left out from here on "
                f"({type(error).__name__}: {reason})",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    _failed = False


def trim_metrics(folder: Path, update: int) -> None:
    """Forget the lines that a killed run wrote after the checkpoint it goes on from.

    Training lines up to ``update`` stay; evaluations at ``update`` go too, since they are done
    again. A last line that was cut off goes.
    """
    path = folder / METRICS
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if values["update"] < update + (values["kind"] == "train"):
            kept.append(line + "\n")
    write_whole(path, "".join(kept))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of a run's metrics, in the order of writing."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def _logged_in(settings: Any) -> bool:
    """Whether wandb would find a key: in its settings or environment, or in ``.netrc``."""
    if settings.api_key:
        return True
    try:
        return netrc.netrc().authenticators(urlparse(settings.base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _json_number(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


class _Speed(ProgressColumn):
    """Images per second since this start of the run."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["before"]
        return Text(f"{done / task.elapsed:,.0f} images/s" if task.elapsed and done else "")


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
