"""How fast are batches made? tinynet beside its neighbours, on the same pictures.

    python benchmarks/loader.py --shards shards/tiny-imagenet-jpg [--json]

Two tasks: (a) shuffled batches of uint8 pictures; (b) mirrored, cropped, normalised float32 ones.
Every loader lives in a process of its own, all pinned to the same cores; they take turns, so that
a busy machine is busy for all. The figure is the median of the turns; the page cache is warm.
"""

import importlib.util
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tinynet.batches import View, training_batches
from tinynet.config import Augmentation
from tinynet.errors import UserError
from tinynet.layout import PIXELS_AT, sample_stride
from tinynet.order import Plan
from tinynet.packing import pack
from tinynet.pictures import encode_jpeg
from tinynet.shards import Split
from tinynet.sources import open_source


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare loaders of pictures."""

    shards: Path | None = None
    """A packed data set, best with the jpg encoding, whose bytes stay as they are; if not given,
    the built-in sample is drawn."""
    samples: int | None = None
    """Take only so many training pictures."""
    batch: int = 512
    """Pictures in a batch."""
    cores: int = 1
    """Cores that each loader gets, with as many workers or threads."""
    turns: int = 5
    """How often the loaders take turns."""
    seconds: float = 2.0
    """Length of a turn."""
    json: bool = False
    """Print the figures as JSON instead of a table."""


@dataclass(frozen=True)
class Bench:
    """What a loader is given: the same pictures as JPEG files and in both kinds of shards."""

    folder: Path
    batch: int
    cores: int


Batches = Iterator[Any]
"""Endless; only their number and size count."""


def plain_copy(bench: Bench, _floats: bool) -> Batches:
    """The same bytes in the order of the files, copied and no more: what memory allows."""
    split = Split(bench.folder / "npy/train")
    shape = split.manifest.image_shape
    out = np.empty((bench.batch, *shape), np.uint8)
    while True:
        for shard in split.manifest.shards:
            file = np.memmap(bench.folder / "npy/train" / shard.name, np.uint8, "r")
            strides = (sample_stride(shape), shape[1] * shape[2], shape[2], 1)
            rows = np.lib.stride_tricks.as_strided(
                file[PIXELS_AT:], (shard.samples, *shape), strides, writeable=False
            )
            for first in range(0, shard.samples - bench.batch + 1, bench.batch):
                np.copyto(out, rows[first : first + bench.batch])
                yield out


def tinynet(encoding: str) -> Callable[[Bench, bool], Batches]:
    """Our own, with either encoding."""

    def batches(bench: Bench, floats: bool) -> Batches:
        split = Split(bench.folder / encoding / "train")
        plan = Plan(seed=1, samples=len(split), epochs=1e6, global_batch_size=bench.batch)
        if floats:
            manifest = split.manifest
            view = View(
                mean=manifest.mean,
                std=manifest.std,
                image_size=manifest.image_shape[0],
                device=torch.device("cpu"),
            )
            yield from training_batches(split, plan, Augmentation(), view)
        out = torch.empty(bench.batch, *split.manifest.image_shape, dtype=torch.uint8)
        for share in plan.shares(0):
            ids = share.sample_ids.sort().values
            yield split.read(ids, out), split.labels[ids]

    return batches


def transform(bench: Bench, floats: bool) -> Callable[[Any], Tensor]:
    """What the neighbours do to a PIL picture."""
    if not floats:
        return v2.PILToTensor()
    manifest = Split(bench.folder / "npy/train").manifest
    return v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(manifest.image_shape[0], padding=4, padding_mode="reflect"),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(manifest.mean, manifest.std),
        ]
    )


def image_folder(bench: Bench, floats: bool) -> Batches:
    """torchvision's ImageFolder and transforms v2 with torch's DataLoader."""
    data = ImageFolder(str(bench.folder / "files/train"), transform(bench, floats))
    loader = DataLoader(data, bench.batch, shuffle=True, num_workers=bench.cores, drop_last=True)
    while True:
        yield from loader


def webdataset(bench: Bench, floats: bool) -> Batches:
    """Stock webdataset on our jpg shards, with torch's DataLoader."""
    import webdataset

    urls = sorted(str(path) for path in (bench.folder / "jpg/train").glob("*.tar"))
    data = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(transform(bench, floats), lambda label: label)
    )
    workers = min(bench.cores, len(urls))
    while True:
        yield from DataLoader(data, bench.batch, num_workers=workers, drop_last=True)


def mosaicml_streaming(bench: Bench, floats: bool) -> Batches:
    """StreamingDataset on JPEGs in MDS files, with torch's DataLoader."""
    from streaming import MDSWriter, StreamingDataset

    class Pictures(StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return to_tensor(sample["image"]), sample["label"]

    to_tensor = transform(bench, floats)
    local = bench.folder / "mds"
    if not local.exists():
        files = ImageFolder(str(bench.folder / "files/train"))
        columns = {"image": "jpeg", "label": "int"}
        with MDSWriter(out=str(local), columns=columns) as writer:
            for picture, label in files:
                writer.write({"image": picture, "label": label})
    data = Pictures(local=str(local), shuffle=True, batch_size=bench.batch)
    while True:
        yield from DataLoader(data, bench.batch, num_workers=bench.cores, drop_last=True)


def ffcv(bench: Bench, floats: bool) -> Batches:
    """FFCV on raw pixels; its translation fills with black instead of reflecting."""
    from ffcv.fields import IntField, RGBImageField
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import (
        Convert,
        RandomHorizontalFlip,
        RandomTranslate,
        ToTensor,
        ToTorchImage,
    )
    from ffcv.writer import DatasetWriter
    from torchvision.transforms import Normalize

    manifest = Split(bench.folder / "npy/train").manifest
    beton = bench.folder / "train.beton"
    if not beton.exists():
        fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
        files = ImageFolder(str(bench.folder / "files/train"))
        DatasetWriter(str(beton), fields, num_workers=1).from_indexed_dataset(files)
    pipeline: list[Any] = [SimpleRGBImageDecoder()]
    if floats:
        pixels = [[255 * value for value in part] for part in (manifest.mean, manifest.std)]
        pipeline += [RandomHorizontalFlip(), RandomTranslate(padding=4), ToTensor(), ToTorchImage()]
        pipeline += [Convert(torch.float32), Normalize(*pixels)]
    else:
        pipeline += [ToTensor()]
    pipelines = {"image": pipeline, "label": [IntDecoder(), ToTensor()]}
    loader = Loader(
        str(beton),
        batch_size=bench.batch,
        num_workers=bench.cores,
        order=OrderOption.RANDOM,
        pipelines=pipelines,
        drop_last=True,
    )
    while True:
        yield from loader


LOADERS: dict[str, Callable[[Bench, bool], Batches]] = {
    "plain copy": plain_copy,
    "tinynet npy": tinynet("npy"),
    "tinynet jpg": tinynet("jpg"),
    "ImageFolder": image_folder,
    "webdataset": webdataset,
    "mosaicml-streaming": mosaicml_streaming,
    "FFCV raw": ffcv,
}
READS = {
    "plain copy": "npy/train",
    "tinynet npy": "npy/train",
    "tinynet jpg": "jpg/train",
    "ImageFolder": "files/train",
    "webdataset": "jpg/train",
    "mosaicml-streaming": "mds",
    "FFCV raw": "train.beton",
}
"""What each reads, so that it can be brought into the page cache before a turn."""
NEEDS = {"mosaicml-streaming": "streaming", "FFCV raw": "ffcv"}
TASKS = {"a": False, "b": True}
"""The tasks by name: whether floats are wanted."""


def main() -> None:
    """Prepare the pictures, let the loaders take turns, print the table."""
    options = tyro.cli(Options, description=__doc__)
    try:
        with tempfile.TemporaryDirectory(prefix="tinynet-bench-") as folder:
            print("preparing the pictures …", file=sys.stderr)
            prepare(options, Path(folder))
            figures = measure(options, Bench(Path(folder), options.batch, options.cores))
    except UserError as error:
        print(f"loader.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(figures, indent=1) if options.json else table(figures))


def prepare(options: Options, folder: Path) -> None:
    """Write the training pictures as ``files``, ``npy`` and ``jpg`` below ``folder``."""
    if options.shards is None:
        source = open_source("sample", None, folder / "cache")
        pack(source, folder / "given", lambda _: None, encoding="jpg")
    split = Split((options.shards or folder / "given") / "train")
    if not 0 < options.batch <= min(len(split), options.samples or len(split)):
        raise UserError(f"--batch {options.batch} is not between 1 and the number of pictures")
    at = 0
    for shard in split.manifest.shards:
        file = np.memmap(split.folder / shard.name, np.uint8, "r")
        for index, label in enumerate(shard.labels):
            if at == options.samples:
                break
            if split.manifest.encoding == "jpg":
                first = shard.offsets[index]
                jpeg = file[first : first + shard.sizes[index]].tobytes()
            else:
                jpeg = encode_jpeg(split.gather(torch.tensor([at]))[0].numpy())
            path = folder / "files/train" / split.manifest.class_ids[label] / f"{at}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg)
            at += 1
    # A source needs both splits; this one plays no part.
    for class_folder in (folder / "files/train").iterdir():
        (folder / "files/val" / class_folder.name).mkdir(parents=True)
        shutil.copy(next(class_folder.iterdir()), folder / "files/val" / class_folder.name)
    for encoding in ("npy", "jpg"):
        source = open_source("image-folder", folder / "files", folder / "cache")
        pack(source, folder / encoding, lambda _: None, encoding=encoding)


def measure(options: Options, bench: Bench) -> dict[str, dict[str, Any]]:
    """By loader and task: images per second and core, its spread, and memory in MB."""
    spawn = multiprocessing.get_context("spawn")
    figures: dict[str, dict[str, Any]] = {name: {} for name in LOADERS}
    for task in TASKS:
        children: dict[str, Connection] = {}
        for name in LOADERS:
            figures[name][task] = None
            missing = name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None
            if not missing and (name != "plain copy" or task == "a"):
                print(f"({task}) {name}: warming up", file=sys.stderr)
                children[name] = start(spawn, bench, name, task)
                if take_turn(children[name], options.seconds) is None:
                    del children[name]
        turns: dict[str, list[tuple[float, float, float]]] = {name: [] for name in children}
        for turn in range(options.turns):
            print(f"({task}) turn {turn + 1} of {options.turns}", file=sys.stderr)
            for name, child in children.items():
                if (result := take_turn(child, options.seconds)) is not None:
                    turns[name].append(result)
        for name, child in children.items():
            child.send(None)
            speeds = [speed / bench.cores for speed, _, _ in turns[name]]
            figures[name][task] = {
                "images_per_second_per_core": statistics.median(speeds),
                "lowest": min(speeds),
                "highest": max(speeds),
                "resident_mb": turns[name][-1][1],
                "private_mb": turns[name][-1][2],
            }
    return figures


def start(spawn: SpawnContext, bench: Bench, name: str, task: str) -> Connection:
    """Start a loader's process; the end of a pipe to it."""
    ours, theirs = spawn.Pipe()
    spawn.Process(target=serve, args=(theirs, bench, name, task)).start()
    theirs.close()  # so that a dead child is noticed
    return ours


def take_turn(child: Connection, seconds: float) -> tuple[float, float, float] | None:
    """Images per second, resident and private MB; None if the loader is missing or has died."""
    try:
        child.send(seconds)
        result: tuple[float, float, float] = child.recv()
    except (EOFError, OSError):
        return None
    return result


def serve(parent: Connection, bench: Bench, name: str, task: str) -> None:
    """A loader's process: one turn for every number of seconds that it is sent."""
    multiprocessing.set_start_method("fork", force=True)  # of the loaders' own workers
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: bench.cores])
    torch.set_num_threads(bench.cores)
    batches = LOADERS[name](bench, TASKS[task])
    next(batches)  # starts workers
    while (seconds := parent.recv()) is not None:
        read_all(bench.folder / READS[name])
        run_for(seconds, bench, batches)  # not counted: maps what was unmapped while others ran
        speed = run_for(seconds, bench, batches)
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        memory = [process.memory_info() for process in family]
        parent.send(
            (
                speed,
                sum(part.rss for part in memory) / 1e6,
                # Pages of files are shared by all processes that map them.
                sum(part.rss - part.shared for part in memory) / 1e6,
            )
        )
    os._exit(0)  # some neighbours leave threads behind that never end


def read_all(path: Path) -> None:
    """Bring files into the page cache; a busy machine may have put them out since the last turn."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


def run_for(seconds: float, bench: Bench, batches: Batches) -> float:
    """Images per second over some seconds."""
    start, passed, done = time.perf_counter(), 0.0, 0
    while passed < seconds:
        next(batches)
        done += bench.batch
        passed = time.perf_counter() - start
    return done / passed


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures in Markdown."""
    lines = [
        "| loader | (a) uint8, images/s per core | × ImageFolder | × plain copy "
        "| (b) flip, crop, float32 | × ImageFolder | memory, MB (private) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    key = "images_per_second_per_core"
    for name, tasks in figures.items():
        if tasks["a"] is None:
            lines.append(f"| {name} | missing or failed | | | | | |")
            continue
        cells = []
        for task in TASKS:
            own = tasks[task]
            if own is None:
                cells += ["", ""]
                continue
            spread = f"{own['lowest']:,.0f}…{own['highest']:,.0f}"
            cells.append(f"{own[key]:,.0f} ({spread})")
            cells.append(f"{own[key] / figures['ImageFolder'][task][key]:,.1f}")
            if task == "a":
                cells.append(f"{own[key] / figures['plain copy']['a'][key]:.3f}")
        memory = tasks["b"] or tasks["a"]
        cells.append(f"{memory['resident_mb']:,.0f} ({memory['private_mb']:,.0f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
