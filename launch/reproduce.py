"""Train configs again and write what came out into docs/results.md and README.md.

    python launch/reproduce.py svm alexnet64-fast --seeds 3 --shards shards/tiny-imagenet

`--quick` runs every config, or the named ones, for two updates on the built-in sample instead and
writes nothing: does it still start, train, evaluate and explain itself?
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from tinynet.errors import UserError
from tinynet.flags import read_config
from tinynet.packing import pack
from tinynet.results import Row, config_hash, mean_and_deviation, put_row
from tinynet.shards import read_manifest
from tinynet.sources import open_source

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
DOCUMENTS = (ROOT / "docs/results.md", ROOT / "README.md")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train configs again and write down what came out."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Configs, by the names of their files; with --quick all of them if none is named."""
    seeds: int = 1
    """Train with the seeds 1 … this."""
    shards: str | None = None
    """Packed data set, if not where the config says."""
    flags: str = ""
    """More flags for launch/train.py, in one string; they are written down with the command."""
    output: Path = Path("runs")
    """Folder of the runs; a run that is finished there is not trained again."""
    quick: bool = False
    """Only see whether the configs run."""


def main() -> None:
    """Run what is asked for; status 2 for a user's mistake, 1 if a training failed."""
    options = tyro.cli(Options, description=__doc__, use_underscores=True)
    names = options.names or tuple(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    try:
        unknown = [name for name in names if not (CONFIGS / f"{name}.yaml").is_file()]
        if unknown or not (options.names or options.quick):
            known = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
            raise UserError(f"name configs of {CONFIGS}, not {' '.join(unknown)!r}: {known}")
        if options.quick:
            quick(names)
        else:
            for name in names:
                reproduce(name, options)
    except UserError as error:
        print(f"reproduce.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        print(f"reproduce.py: error: {shlex.join(error.cmd)} failed", file=sys.stderr)
        sys.exit(1)


def quick(names: tuple[str, ...]) -> None:
    """Two updates of every config on the sample, without pretrained weights and at its size."""
    with tempfile.TemporaryDirectory(prefix="tinynet-quick-") as folder:
        shards = Path(folder) / "sample"
        pack(open_source("sample", None, Path(folder) / "cache"), shards, lambda _: None)
        epochs = 2 * 16 / read_manifest(shards / "train").samples
        flags = ["--shards", str(shards), "--output", folder, "--epochs", str(epochs)]
        flags += ["--global_batch_size", "16", "--cpu", "--wandb", "disabled"]
        for name in names:
            start = ["--model.no-pretrained"] if _is_pretrained(name) else []
            summary = train(name, [*flags, *start], Path(folder) / name)
            print(f"{name}: {summary['samples']} pictures evaluated")


def reproduce(name: str, options: Options) -> None:
    """Train one config with all seeds and put its row into the documents."""
    flags = ["--wandb", "disabled", *shlex.split(options.flags)]
    flags += ["--shards", options.shards] if options.shards else []
    summaries = []
    for seed in range(1, options.seeds + 1):
        run = f"{name}-seed{seed}"
        more = ["--seed", str(seed), "--run_name", run, "--output", str(options.output)]
        summaries.append(train(name, [*flags, *more], options.output / run))
    config = read_config(options.output / f"{name}-seed1" / "config.yaml")
    first = summaries[0]
    on_gpu = first["device"] != "cpu"
    row = Row(
        config=name,
        top1=mean_and_deviation([summary["top1"] for summary in summaries]),
        top5=mean_and_deviation([summary["top5"] for summary in summaries]),
        flipped=" / ".join(
            mean_and_deviation([summary["flipped"][name] for summary in summaries])
            for name in ("top1", "top5")
            if first["flipped"]
        ),
        seeds=str(options.seeds),
        minutes=f"{sum(summary['seconds'] for summary in summaries) / 60 / len(summaries):.1f}",
        protocol=config.protocol,
        data=f"{first['train_samples']:,} train, {first['samples']:,} val pictures",
        hardware=f"{first['processes']} × {first['device']}"
        if on_gpu
        else f"{os.cpu_count()} CPU cores",
        commit=_git("rev-parse", "--short", "HEAD") + "+" * bool(changes()),
        hash=config_hash(CONFIGS / f"{name}.yaml"),
        command="`" + " ".join(["python launch/reproduce.py", name, *_given(options)]) + "`",
    )
    pretrained = config.model.pretrained or config.model.weights or config.model.checkpoint
    for document in DOCUMENTS:
        put_row(row, document, "pretrained" if pretrained else "from scratch")
    print(f"{name}: top-1 {row.top1} %, top-5 {row.top5} %, {row.minutes} minutes")


def train(name: str, flags: list[str], folder: Path) -> dict[str, Any]:
    """Train unless ``folder`` holds a finished run; its summary."""
    summary = folder / "summary.json"
    if not summary.exists():
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
        config = ["--config", str(CONFIGS / f"{name}.yaml")]
        subprocess.run([*launcher, str(ROOT / "launch/train.py"), *config, *flags], check=True)
    result: dict[str, Any] = json.loads(summary.read_text())
    return result


def _is_pretrained(name: str) -> bool:
    return read_config(CONFIGS / f"{name}.yaml").model.pretrained


def _given(options: Options) -> list[str]:
    given = [f"--seeds {options.seeds}"] * (options.seeds > 1)
    return given + [f"--flags {shlex.quote(options.flags)}"] * bool(options.flags)


def changes() -> str:
    """What differs from the commit, but for the tables that rows are written into."""
    but = [f":!{document.relative_to(ROOT)}" for document in DOCUMENTS]
    return _git("status", "--porcelain", "--", ".", *but)


def _git(*words: str) -> str:
    """What git says of the checkout; nothing where there is no git."""
    try:
        ran = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ran.stdout.strip()


if __name__ == "__main__":
    main()
