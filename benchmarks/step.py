"""What does feeding the model cost? The training step on real batches, and on one constant batch.

    python benchmarks/step.py --config configs/alexnet64.yaml --shards shards/tiny-imagenet --cpu

Takes the settings of launch/train.py. Blocks of updates of both kinds take turns; the figure is the
median of their ratios.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from tinynet.batches import Batch, training_batches
from tinynet.errors import UserError
from tinynet.flags import load_config
from tinynet.run import Launched, Run, prepare, start_accelerator
from tinynet.training import step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=10, help="updates in a block")
    parser.add_argument("--turns", type=int, default=10, help="blocks of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options, flags = parser.parse_known_args()
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
            f"({figures['lowest']:.3f}…{figures['highest']:.3f})"
        )


def measure(run: Run, updates: int, turns: int) -> dict[str, float]:
    """Images per second of both kinds, and the ratio of neighbouring blocks."""
    real = training_batches(run.train, run.plan, run.config.augmentation, run.view)
    first = next(real)
    constant = itertools.repeat(replace(first, images=first.images.clone()))
    run.model.train()
    for batches in (real, constant):
        block(run, batches, 2)
    speeds = [(block(run, real, updates), block(run, constant, updates)) for _ in range(turns)]
    ratios = [ours / bare for ours, bare in speeds]
    return {
        "real": statistics.median(ours for ours, _ in speeds),
        "constant": statistics.median(bare for _, bare in speeds),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }


def block(run: Run, batches: Iterator[Batch], updates: int) -> float:
    """Images per second over some updates."""
    start = time.perf_counter()
    for _ in range(updates):
        step(run, batches)
    if run.view.device.type == "cuda":
        torch.cuda.synchronize()
    return updates * run.plan.global_batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
