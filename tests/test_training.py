"""Whole runs in this process and under the real launcher, on tiny shards."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file

from tests.conftest import ROOT, coloured_squares
from tinynet import progress, training
from tinynet.config import (
    Augmentation,
    Compute,
    Config,
    Loss,
    Model,
    Optimizer,
    Schedule,
    Tracking,
)
from tinynet.errors import UserError
from tinynet.evaluation import Scores, load_predictions
from tinynet.flags import read_config, to_yaml
from tinynet.packing import pack
from tinynet.run import Launched
from tinynet.tracking import read_metrics

ALONE = Launched(processes=1, local_processes=1)


def tiny(shards: Path, output: Path, **changes: object) -> Config:
    """Four epochs of five updates of a linear model; each takes a moment."""
    config = Config(
        shards=str(shards),
        output=str(output),
        run_name="run",
        epochs=4,
        global_batch_size=24,
        cpu=True,
        wandb="disabled",
        model=Model(name="svm"),
        loss=Loss(name="hinge"),
        augmentation=Augmentation(crop_padding=2, gamma=0.1),
        optimizer=Optimizer(lr=0.01),
        schedule=Schedule(warmup_epochs=1),
        compute=Compute(threads=1),
        tracking=Tracking(log_every=2),
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def train(config: Config, launched: Launched = ALONE) -> Path:
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    training.train(config, launched, "test")
    return Path(config.output) / str(config.run_name)


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / name / "model.safetensors")


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny(shards, tmp_path_factory.mktemp("runs")))


def test_a_run_learns_and_leaves_all_its_files(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["top1"] > 50  # chance is 25
    assert summary["samples"] == 37
    for key in ("top5", "loss", "seconds", "images_per_second", "versions", "command"):
        assert summary[key], key
    assert len(summary["weights_sha256"]) == 64
    for name in ("config.yaml", "predictions.safetensors", "tables/classes.csv"):
        assert (finished / name).is_file(), name
    assert {path.stem for path in (finished / "plots").iterdir()} == {
        "curves",
        "misclassified",
        "confusion",
    }


def test_metrics_hold_every_interval_and_evaluation(finished: Path) -> None:
    lines = read_metrics(finished)
    train_lines = [line for line in lines if line["kind"] == "train"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["update"] for line in evaluations] == [5, 10, 15, 20]
    assert [line["update"] for line in train_lines] == sorted({*range(2, 21, 2), 5, 10, 15, 20})
    assert {"epoch", "update", "samples", "lr", "loss", "top1", "top5", "images_per_second"} <= (
        train_lines[0].keys()
    )
    assert train_lines[-1]["samples"] == 20 * 24
    assert train_lines[0]["lr"] == pytest.approx(0.01 * 2 / 5)


def test_predictions_are_exact(finished: Path) -> None:
    predictions = load_predictions(finished / "predictions.safetensors")
    assert predictions.sample_ids.equal(torch.arange(37))
    top1 = (predictions.logits.argmax(1) == predictions.labels).float().mean().item() * 100
    assert json.loads((finished / "summary.json").read_text())["top1"] == pytest.approx(top1)


def test_the_written_config_gives_the_same_run_again(finished: Path, tmp_path: Path) -> None:
    config = read_config(finished / "config.yaml")
    again = train(replace(config, output=str(tmp_path)))
    assert all(tensor.equal(weights(again)[name]) for name, tensor in weights(finished).items())


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("killed_at", "model"), [(1, "svm"), (5, "svm"), (7, "alexnet64")])
def test_a_killed_run_goes_on_to_the_same_weights(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int, model: str
) -> None:
    config = tiny(
        shards,
        tmp_path / "whole",
        model=Model(name=model),
        loss=Loss(),
        epochs=2,
        tracking=Tracking(log_every=2, save_every=3),
    )
    whole = train(config)
    real_step, steps = training.step, 0

    def step(*arguments: object) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps > killed_at:
            raise Killed
        return real_step(*arguments)  # type: ignore[arg-type]

    config = replace(config, output=str(tmp_path / "killed"))
    with monkeypatch.context() as patch:
        patch.setattr(training, "step", step)
        with pytest.raises(Killed):
            train(config)
    run = train(config)
    assert all(tensor.equal(weights(run)[name]) for name, tensor in weights(whole).items())
    for kind in ("train", "evaluation"):
        ours, theirs = (
            [(line["update"], line["loss"]) for line in read_metrics(r) if line["kind"] == kind]
            for r in (run, whole)
        )
        evaluations_or_common = set(ours) & set(theirs)
        assert len(ours) == len({update for update, _ in ours})
        assert kind == "train" or ours == theirs
        assert len(evaluations_or_common) >= len(theirs) // 2
    ours, theirs = (json.loads((r / "summary.json").read_text()) for r in (run, whole))
    assert ours["best"] == theirs["best"]


def test_accumulation_changes_the_weights_only_by_rounding(
    finished: Path, shards: Path, tmp_path: Path
) -> None:
    run = train(tiny(shards, tmp_path, compute=Compute(accumulation=3, threads=1)))
    for name, tensor in weights(finished).items():
        assert torch.allclose(tensor, weights(run)[name], rtol=1e-4, atol=1e-6)


def test_zero_epochs_only_evaluate_a_checkpoint(
    finished: Path, shards: Path, tmp_path: Path
) -> None:
    run = train(tiny(shards, tmp_path, epochs=0, model=Model(name="svm", checkpoint=str(finished))))
    ours, theirs = (json.loads((r / "summary.json").read_text()) for r in (run, finished))
    assert ours["top1"] == theirs["best"]["top1"]
    assert ours["samples"] == 37


def test_bf16_clipping_l2_and_resizing_run(shards: Path, tmp_path: Path) -> None:
    run = train(
        tiny(
            shards,
            tmp_path,
            epochs=1,
            model=Model(name="alexnet64"),
            loss=Loss(l2=1e-4, label_smoothing=0.1),
            optimizer=Optimizer(name="adamw", lr=1e-3, clip_norm=1.0),
            compute=Compute(mixed_precision="bf16", image_size=24),
        )
    )
    assert json.loads((run / "summary.json").read_text())["samples"] == 37


def test_grey_digits_take_the_same_way(tmp_path: Path) -> None:
    source = coloured_squares(size=28)
    read = source.read
    grey = replace(source, read=lambda picture: read(picture)[:, :, :1])  # type: ignore[call-overload,index]
    pack(grey, tmp_path / "shards", lambda _: None)
    for model in ("svm", "alexnet64"):
        config = tiny(
            tmp_path / "shards", tmp_path, model=Model(name=model), run_name=model, epochs=1
        )
        assert (train(config) / "plots" / "misclassified.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shards": "nowhere"}, r"no packed split in nowhere/train .*launch/pack\.py"),
        ({"model": Model(name="smv")}, "smv is not known to timm: did you mean svm"),
        ({"global_batch_size": 121}, "more than the 120 training samples"),
        ({"compute": Compute(accumulation=5)}, r"24 cannot be shared by 1 ranks × 5"),
        ({"resume": "other"}, r"--resume other: there is no run with a checkpoint"),
        ({"compute": Compute(mixed_precision="fp16")}, "needs a GPU"),
        ({"optimizer": Optimizer(name="sdg")}, r"sdg is not known to timm: did you mean .*sgd"),
        ({"processes": 2}, r"--processes 2 were asked for, 1 started"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    shards: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(replace(tiny(shards, tmp_path), **changes))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_not_overwritten(finished: Path, shards: Path) -> None:
    before = (finished / "summary.json").read_bytes()
    for resume in ("auto", "never", str(finished)):
        with pytest.raises(UserError, match="holds a finished run"):
            train(tiny(shards, finished.parent, resume=resume))
    assert (finished / "summary.json").read_bytes() == before


def test_another_run_s_folder_is_refused(finished: Path, shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last").symlink_to(finished / "checkpoints" / "last")
    with pytest.raises(UserError, match=r"another run \(optimizer.lr was 0.01, is 0.5\)"):
        train(tiny(shards, tmp_path, optimizer=Optimizer(lr=0.5)))
    with pytest.raises(UserError, match="holds an unfinished run"):
        train(tiny(shards, tmp_path, resume="never"))


def test_a_checkpoint_of_other_classes_is_refused(finished: Path, tmp_path: Path) -> None:
    pack(coloured_squares(classes=3), tmp_path / "other", lambda _: None)
    config = tiny(tmp_path / "other", tmp_path, model=Model(name="svm", checkpoint=str(finished)))
    with pytest.raises(UserError, match=r"trained for 4 classes .* the data has 3"):
        train(config)


def test_val_at_chance_is_shouted() -> None:
    at_chance = Scores(top1=0.5, top5=2.5, loss=5.3, samples=10_000)
    warning = progress.chance_warning(at_chance, train_top1=30.0, classes=200)
    assert warning is not None
    assert "val labels are probably wrong" in warning
    assert progress.chance_warning(at_chance, train_top1=0.6, classes=200) is None
    assert progress.chance_warning(replace(at_chance, top1=20.0), 30.0, 200) is None


def launch(arguments: list[str], *launcher: str) -> "subprocess.CompletedProcess[str]":
    """Run train.py under the real ``accelerate launch``."""
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", *launcher]
    return subprocess.run(
        [*accelerate, str(ROOT / "launch" / "train.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        check=False,
    )


TWO = ("--config_file", str(ROOT / "configs/accelerate/cpu.yaml"))


def test_two_processes_train_like_one(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    config = read_config(finished / "config.yaml")
    path.write_text(to_yaml(replace(config, output=str(tmp_path), run_name="two", wandb="offline")))
    result = launch(["--config", str(path), "--processes", "2"], *TWO)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "two"
    for name, tensor in weights(finished).items():
        assert torch.allclose(tensor, weights(run)[name], rtol=1e-4, atol=1e-6)
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["samples"], summary["processes"]) == (37, 2)
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1
    lines = result.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 1 + 4 + 1, result.stdout
    assert "2 processes, cpu" in lines[0]


def test_a_mistake_is_said_once_by_two_processes(shards: Path, tmp_path: Path) -> None:
    arguments = ["--cpu", "--shards", str(shards), "--output", str(tmp_path)]
    result = launch([*arguments, "--global_batch_size", "25"], *TWO)
    assert result.returncode != 0
    assert result.stderr.count("25 cannot be shared by 2 ranks") == 1
    # The launcher adds a traceback of its own; there must be none of ours.
    assert f'File "{ROOT / "tinynet"}' not in result.stderr
    assert f'File "{ROOT / "launch"}' not in result.stderr


def test_python_alone_exits_with_2_and_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "launch/train.py"), "--cpu", "--shards", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("train.py: error: no packed split in")
    assert len(result.stderr.splitlines()) == 1


def test_a_backbone_learns_by_the_hinge_loss(shards: Path, tmp_path: Path) -> None:
    model = Model(name="alexnet64")
    run = train(tiny(shards, tmp_path, model=model, optimizer=Optimizer(lr=0.02)))
    losses = [line["loss"] for line in read_metrics(run) if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 2
