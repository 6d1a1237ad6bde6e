"""All of the rest put together: a run from its first update to its explained mistakes."""

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict

import torch
from accelerate.utils import broadcast
from torch import Tensor

from tinynet import checkpoints
from tinynet.batches import Batch, evaluation_batches, training_batches
from tinynet.checkpoints import State
from tinynet.config import Config
from tinynet.evaluation import (
    Predictions,
    Scores,
    accuracies,
    assemble,
    pad,
    predict,
    save_predictions,
    score,
)
from tinynet.files import write_whole
from tinynet.flags import to_yaml
from tinynet.optimization import image_size, l2_penalty, learning_rate, set_learning_rate
from tinynet.order import evaluation_range
from tinynet.progress import (
    Progress,
    chance_warning,
    describe,
    epoch_line,
    final_line,
    position,
    summarise,
)
from tinynet.report import explain
from tinynet.run import SUMMARY, Launched, Run, dropout_seed, prepare, start_accelerator
from tinynet.shards import Split
from tinynet.tracking import Tracker, WandbSettings, open_tracker, trim_metrics

NAMES = ("loss", "top1", "top5")


def train(config: Config, launched: Launched, command: str) -> None:
    """Train (or, with 0 epochs, only evaluate) as ``config`` says, on every rank at once.

    Raises ``UserError`` before the first update if something is missing or does not fit.
    """
    run = prepare(config, start_accelerator(config, launched))
    progress = restore(run)
    main = run.accelerator.is_main_process
    if main:
        write_whole(run.folder / "config.yaml", to_yaml(run.config))
        trim_metrics(run.folder, progress.update)
    wandb = WandbSettings(
        mode=config.wandb,
        project=config.tracking.project,
        name=run.folder.name,
        id=progress.wandb_id,
    )
    with open_tracker(run.folder, main=main, wandb=wandb, config=asdict(config)) as tracker:
        tracker.say(describe(run, progress))
        predictions, scores = fit(run, progress, tracker)
        if config.protocol == "holdout":
            load_best(run)
            predictions, scores = measure(run, run.test)
        flipped = measure(run, run.test, flip=True)[1] if config.evaluation.flip else None
        if main:
            summary = summarise(run, progress, (scores, flipped), command)
            save_predictions(predictions, run.folder / "predictions.safetensors")
            write_whole(run.folder / SUMMARY, json.dumps(summary, indent=1) + "\n")
            tracker.summary({key: summary[key] for key in ("top1", "top5", "loss", "best")})
            explain(run.folder, predictions, run.test, tracker)
        tracker.say(final_line(run, scores, flipped))


def fit(run: Run, progress: Progress, tracker: Tracker) -> tuple[Predictions, Scores]:
    """The training loop. Returns the predictions and scores of the last weights."""
    plan, config = run.plan, run.config
    meter = Meter(run)
    tracker.progress(
        plan.updates * plan.global_batch_size, progress.update * plan.global_batch_size
    )
    batches = training_batches(
        run.train,
        plan,
        config.augmentation,
        run.view,
        progress.update,
        lambda update: image_size(
            update, plan.updates_per_epoch, run.view.image_size, config.schedule
        ),
    )
    result = None
    if is_evaluated(run, progress.update):  # not done before the run was killed, or nothing to do
        result = evaluate(run, progress, meter, tracker)
    run.model.train()
    for update in range(progress.update, plan.updates):
        torch.manual_seed(dropout_seed(config.seed, update, plan.rank))
        rate = learning_rate(
            update, plan.updates, plan.updates_per_epoch, config.optimizer.lr, config.schedule
        )
        set_learning_rate(run.optimizer, rate)
        meter.add(step(run, batches))
        progress.update = update + 1
        tracker.advance(plan.global_batch_size)
        if progress.update % config.tracking.log_every == 0 or is_epoch_end(run, progress.update):
            tracker.log("train", {**position(run, progress), "lr": rate, **meter.read()})
        if is_saved(run, progress.update):
            save(run, progress, "last")
        if is_evaluated(run, progress.update):
            result = evaluate(run, progress, meter, tracker)
    return result or evaluate(run, progress, meter, tracker)


def step(run: Run, batches: Iterator[Batch]) -> Tensor:
    """One update from ``accumulation`` micro-batches; this rank's (loss, top-1, top-5)."""
    accumulation, clip = run.plan.accumulation, run.config.optimizer.clip_norm
    sums = torch.zeros(3, device=run.view.device)
    run.optimizer.zero_grad()
    for micro_batch in range(accumulation):
        batch = next(batches)
        last = micro_batch == accumulation - 1
        with nullcontext() if last else run.accelerator.no_sync(run.model):
            with run.accelerator.autocast():
                logits = run.model(batch.images)
            losses = run.loss(logits, batch.targets)
            if batch.mixed is not None:
                others = run.loss(logits, batch.mixed.targets)
                losses = torch.lerp(others, losses, batch.mixed.share)
            loss = losses.mean()
            if run.config.loss.l2:
                loss = loss + run.config.loss.l2 * l2_penalty(run.bare)
            run.accelerator.backward(loss / accumulation)
        with torch.no_grad():
            sums += torch.stack((loss.detach(), *accuracies(logits.detach(), batch.targets)))
    if clip:
        run.accelerator.clip_grad_norm_(run.model.parameters(), clip)
    run.optimizer.step()
    return sums / accumulation


def evaluate(
    run: Run, progress: Progress, meter: "Meter", tracker: Tracker
) -> tuple[Predictions, Scores]:
    """Score the val split in the course of a training; keep the weights if they are the best."""
    broadcast(list(run.bare.buffers()))
    started = time.monotonic()
    predictions, scores = measure(run, run.val)
    speed = scores.samples / (time.monotonic() - started)
    tracker.log(
        "evaluation", {**position(run, progress), **asdict(scores), "images_per_second": speed}
    )
    if not progress.best or scores.top1 > progress.best["top1"]:
        progress.best = {"update": progress.update, **asdict(scores)}
        save(run, progress, "best")
    train_means = meter.read_epoch()
    tracker.say(epoch_line(run, progress, scores, train_means))
    classes = predictions.logits.shape[1]
    if warning := chance_warning(scores, train_means.get("top1", 0.0), classes):
        tracker.say(warning)
    return predictions, scores


def measure(run: Run, split: Split, flip: bool = False) -> tuple[Predictions, Scores]:
    """Score a split exactly, on all ranks together; ``flip``: with the mirror images' logits."""
    accelerator, device = run.accelerator, run.view.device
    ids = evaluation_range(len(split), accelerator.num_processes, accelerator.process_index)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    answers = predict(
        run.bare,
        evaluation_batches(split, ids, run.config.evaluation.batch_size, run.view),
        accelerator.autocast(),
        (none, none, torch.zeros(0, len(split.manifest.class_ids), device=device)),
        flip,
    )
    longest = -(-len(split) // accelerator.num_processes)
    padded = [pad(part, longest, value=-1) for part in answers]
    sample_ids, labels, logits = accelerator.gather(padded)
    predictions = assemble(sample_ids, labels, logits, len(split))
    return predictions, score(predictions, run.loss)


class Meter:
    """Running means of training loss, top-1 and top-5 (a tensor of three per update).

    Sums stay on the device; reading them for the log starts a reduction, but waits for nothing.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._interval = torch.zeros(3, device=run.view.device)
        self._epoch = torch.zeros(3, device=run.view.device)
        self._interval_updates = self._epoch_updates = 0
        self._clock = time.monotonic()

    def add(self, means: Tensor) -> None:
        """Take in the means of one update on this rank."""
        self._interval += means
        self._interval_updates += 1

    def read(self) -> dict[str, Tensor | float]:
        """Means over all ranks since the last reading, and images per second of all ranks."""
        sums = self._run.accelerator.reduce(self._interval, "mean")
        now, updates = time.monotonic(), self._interval_updates
        speed = updates * self._run.plan.global_batch_size / (now - self._clock)
        self._epoch += sums
        self._epoch_updates += updates
        self._interval, self._interval_updates, self._clock = torch.zeros_like(sums), 0, now
        loss, top1, top5 = sums / updates
        return {"loss": loss, "top1": top1, "top5": top5, "images_per_second": speed}

    def read_epoch(self) -> dict[str, float]:
        """Means since the last call of this, as numbers; empty if there were no updates."""
        updates, sums = self._epoch_updates, self._epoch.tolist()
        self._epoch, self._epoch_updates = torch.zeros_like(self._epoch), 0
        self._clock = time.monotonic()  # the time of the evaluation counts for no speed
        return dict(zip(NAMES, (total / updates for total in sums), strict=True)) if updates else {}


def is_epoch_end(run: Run, update: int) -> bool:
    """Whether ``update`` finished updates end an epoch or the training."""
    return update > 0 and (update % run.plan.updates_per_epoch == 0 or update == run.plan.updates)


def is_evaluated(run: Run, update: int) -> bool:
    """Whether the model is evaluated after ``update`` finished updates."""
    every = run.config.evaluation.every_epochs * run.plan.updates_per_epoch
    return update == run.plan.updates or (update > 0 and update % every == 0)


def is_saved(run: Run, update: int) -> bool:
    """Whether a checkpoint is due: at epoch ends and every ``save_every`` updates."""
    every = run.config.tracking.save_every
    return is_epoch_end(run, update) or (every > 0 and update % every == 0)


def save(run: Run, progress: Progress, name: str) -> None:
    """Write the checkpoint ``last`` or ``best``; buffers are those of rank zero."""
    broadcast(list(run.bare.buffers()))
    if not run.accelerator.is_main_process:
        return
    scaler = run.accelerator.scaler
    state = State(
        update=progress.update,
        best=progress.best,
        seconds=progress.seconds,
        class_ids=list(run.train.manifest.class_ids),
        identity=run.identity,
        world_size=run.plan.world_size,
        threads=torch.get_num_threads(),
        scaler=scaler.state_dict() if scaler is not None else {},
        wandb_id=progress.wandb_id,
    )
    checkpoints.save(run.folder / "checkpoints" / name, run.bare, run.optimizer, state)


def restore(run: Run) -> Progress:
    """Go on from the run's checkpoint, if it has one."""
    if run.checkpoint is None:
        return Progress()
    state = checkpoints.load(run.checkpoint, run.bare, run.optimizer)
    if run.accelerator.scaler is not None and state.scaler:
        run.accelerator.scaler.load_state_dict(state.scaler)
    return Progress(
        update=state.update,
        best=state.best,
        seconds_before=state.seconds,
        wandb_id=state.wandb_id,
    )


def load_best(run: Run) -> None:
    """Go back to the weights that scored best; rank zero reads them, all ranks get them."""
    if run.accelerator.is_main_process:
        checkpoints.load_weights(
            run.folder / "checkpoints" / "best", run.bare, list(run.train.manifest.class_ids)
        )
    broadcast(list(run.bare.state_dict().values()))
