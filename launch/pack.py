"""Pack pictures into shards: `python launch/pack.py --source tiny-imagenet --path ZIP --out DIR`.

Also `--verify DIR` (is everything as packed?) and `--inspect DIR` (a table and a contact sheet).
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tinynet.doctor import splits_of, verify
from tinynet.errors import UserError
from tinynet.packing import pack
from tinynet.plots import contact_sheet, save_figure
from tinynet.shards import Split
from tinynet.sources import open_source

CONSOLE = Console()


@dataclass(frozen=True, kw_only=True)
class Options:
    """Pack a data set into WebDataset shards, or check packed ones."""

    source: str = "tiny-imagenet"
    """tiny-imagenet, mnist, fashion-mnist, image-folder or sample."""
    path: Path | None = None
    """The zip or folder of the pictures; downloaded (or drawn) if not given."""
    out: Path | None = None
    """Folder to make; shards/SOURCE if not given."""
    encoding: Literal["npy", "jpg"] = "npy"
    """npy: pixels, read without decoding; jpg: the original files, seven times smaller."""
    image_size: int | None = None
    """Resize to this square; the pictures' own size if not given."""
    samples_per_shard: int = 16_384
    """Samples in a shard (235 MB of 64×64 pictures)."""
    url: str | None = None
    """Mirror to download from."""
    cache: Path = Path("downloads")
    """Where downloads are kept."""
    verify: Path | None = None
    """Check every hash, count and label of this packed data set instead of packing."""
    inspect: Path | None = None
    """Print what this packed data set holds and save DIR/contact-sheet.png."""


def main() -> None:
    """Do what the options say; status 1 for a damaged data set, 2 for a user's mistake."""
    options = tyro.cli(Options, description=__doc__, use_underscores=True)
    try:
        if options.verify:
            sys.exit(run_verify(options.verify))
        if options.inspect:
            run_inspect(options.inspect)
        else:
            run_pack(options)
    except UserError as error:
        print(f"pack.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("pack.py: interrupted; nothing was left behind", file=sys.stderr)
        sys.exit(130)


def run_pack(options: Options) -> None:
    """Pack, with a progress bar, and say what was found."""
    out = options.out or Path("shards") / options.source
    source = open_source(options.source, options.path, options.cache, options.url)
    total = sum(len(pictures) for pictures in source.splits.values())
    with bar("pictures") as progress:
        task = progress.add_task("packing", total=total)
        findings = pack(
            source,
            out,
            lambda count: progress.advance(task, count),
            encoding=options.encoding,
            image_size=options.image_size,
            samples_per_shard=options.samples_per_shard,
        )
        seconds = progress.tasks[0].elapsed or 0.0
    for finding in findings:
        CONSOLE.print(f"[yellow]note:[/] {finding}", highlight=False)
    counts = ", ".join(f"{len(pictures):,} {name}" for name, pictures in source.splits.items())
    size = sum(path.stat().st_size for path in out.rglob("*.tar"))
    CONSOLE.print(
        f"packed {counts} pictures of {len(source.class_ids)} classes into {out} "
        f"({size / 1e6:,.1f} MB, {seconds:.1f} s, {total / max(seconds, 1e-9):,.0f} pictures/s)",
        highlight=False,
    )


def run_verify(folder: Path) -> int:
    """Say what is wrong, one line each."""
    with bar("bytes") as progress:
        task = progress.add_task(
            "verifying", total=sum(path.stat().st_size for path in folder.glob("*/*.tar"))
        )
        problems = verify(folder, lambda count: progress.advance(task, count))
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{folder} is sound")
    return 1 if problems else 0


def run_inspect(folder: Path) -> None:
    """Print a line per split and save pictures of some classes."""
    for path in splits_of(folder):
        split = Split(path)
        manifest = split.manifest
        counts = split.labels.bincount(minlength=len(manifest.class_ids))
        print(
            f"{path.name:6} {len(split):7,} samples  {len(manifest.class_ids)} classes of "
            f"{int(counts.min())}–{int(counts.max())}  "
            f"{'×'.join(map(str, manifest.image_shape))} {manifest.encoding}  "
            f"{len(manifest.shards)} shards, "
            f"{sum(shard.bytes for shard in manifest.shards) / 1e6:,.1f} MB  "
            f"mean {manifest.mean}  std {manifest.std}  from {manifest.source}"
        )
    sheet = folder / "contact-sheet.png"
    save_figure(contact_sheet(Split(splits_of(folder)[0])), sheet)
    print(f"pictures: {sheet}")


def bar(unit: str) -> Progress:
    """A progress bar that counts in ``unit``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=CONSOLE,
    )


if __name__ == "__main__":
    main()
