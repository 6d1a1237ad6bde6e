"""Where a tracker writes to: the run's folder and Weights & Biases."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tinynet.files import write_whole

METRICS = "metrics.jsonl"
MAX_ROWS = 10_000  # of a W&B table

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
