"""What does feeding the model cost, and how near is the step to what the machine can do?

    python benchmarks/step.py --config configs/alexnet64.yaml --shards shards/tiny-imagenet --cpu
    python benchmarks/step.py --all --shards shards/tiny-imagenet --cpu

Takes the settings of launch/train.py. Blocks of updates on real batches and on one constant batch
take turns; `ratio` is the median of their ratios. `gflop` are the floating-point operations of the
forward and backward pass of one picture, `peak` the fraction of the speed of a large matrix
multiplication, measured beside it, that they run at. `--all` makes a table of the models of the
configs, each with and without bf16, channels_last and torch.compile.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tinynet.batches import Batch, training_batches
from tinynet.errors import UserError
from tinynet.flags import load_config
from tinynet.run import Launched, Run, prepare, start_accelerator
from tinynet.training import step

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
MODELS = ("svm", "alexnet64", "alexnet-finetune", "vgg11-finetune", "resnet18-small-stem")
VARIANTS = {
    "fp32": ["--compute.mixed_precision", "no"],
    "bf16": ["--compute.mixed_precision", "bf16"],
    "bf16, not channels_last": ["--compute.mixed_precision", "bf16", "--compute.no-channels_last"],
    "bf16, compiled": ["--compute.mixed_precision", "bf16", "--compute.compile"],
}
MATMUL_SIDE = 4096


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=10, help="updates in a block")
    parser.add_argument("--turns", type=int, default=10, help="blocks of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="a table of all models and variants")
    options, flags = parser.parse_known_args()
    if options.all:
        print_table(options, flags)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="tinynet-bench-") as folder:
            config = replace(load_config(flags), output=folder, epochs=1e6)
            run = prepare(
                config, start_accelerator(config, Launched(processes=1, local_processes=1))
            )
            figures = measure(run, options.updates, options.turns)
    except UserError as error:
        print(f"step.py: error: {error}", file=sys.stderr)
        sys.exit(2)
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        print(
            f"{config.model.name} on {run.view.device.type}, {run.accelerator.mixed_precision}: "
            f"{figures['real']:,.0f} images/s on real batches, {figures['constant']:,.0f} on a "
            f"constant one; ratio {figures['ratio']:.3f} "
            f"({figures['lowest']:.3f}…{figures['highest']:.3f}); {figures['gflop']:.2f} GFLOP per "
            f"picture at {figures['peak']:.0%} of a matrix multiplication's speed"
        )


def print_table(options: argparse.Namespace, flags: list[str]) -> None:
    """One line per model and variant, each measured in a process of its own."""
    print("| config | variant | images/s | real / constant | GFLOP per picture | of matmul peak |")
    print("|" + "---|" * 6)
    for name, (variant, settings) in itertools.product(MODELS, VARIANTS.items()):
        command = [sys.executable, __file__, "--config", str(CONFIGS / f"{name}.yaml"), "--json"]
        command += ["--updates", str(options.updates), "--turns", str(options.turns)]
        command += ["--model.no-pretrained", *settings, *flags]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            print(f"| {name} | {variant} | failed: {ran.stderr.strip().splitlines()[-1]} |||||")
            continue
        row = json.loads(ran.stdout)
        print(
            f"| {name} | {variant} | {row['real']:,.0f} | {row['ratio']:.3f} "
            f"| {row['gflop']:.3f} | {row['peak']:.0%} |",
            flush=True,
        )


def measure(run: Run, updates: int, turns: int) -> dict[str, Any]:
    """Images per second of both kinds, the ratio of neighbouring blocks, and the arithmetic."""
    real = training_batches(run.train, run.plan, run.config.augmentation, run.view)
    first = next(real)
    constant = itertools.repeat(replace(first, images=first.images.clone()))
    run.model.train()
    for batches in (real, constant):
        block(run, batches, 2)
    speeds = [(block(run, real, updates), block(run, constant, updates)) for _ in range(turns)]
    ratios = [ours / bare for ours, bare in speeds]
    bare_speed = statistics.median(bare for _, bare in speeds)
    flop = flop_per_picture(run, next(constant))
    return {
        "real": statistics.median(ours for ours, _ in speeds),
        "constant": bare_speed,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "gflop": flop / 1e9,
        "peak": flop * bare_speed / matmul_speed(run.view.device, run.view.dtype),
    }


def block(run: Run, batches: Iterator[Batch], updates: int) -> float:
    """Images per second over some updates."""

    def work() -> None:
        for _ in range(updates):
            step(run, batches)

    return updates * run.plan.global_batch_size / seconds(work, run.view.device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long something takes, until the device is done with it."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def flop_per_picture(run: Run, batch: Batch) -> float:
    """Floating-point operations of a forward and a backward pass, counted by torch."""
    with FlopCounterMode(display=False) as counter, run.accelerator.autocast():
        run.bare(batch.images).float().sum().backward()
    return counter.get_total_flops() / len(batch.targets)


def matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix multiplication; best of five."""
    a, b = (torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device).to(dtype) for _ in range(2))
    a @ b
    return 2 * MATMUL_SIDE**3 / min(seconds(lambda: a @ b, device) for _ in range(5))


if __name__ == "__main__":
    main()
