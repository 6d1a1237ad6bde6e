"""What is trained on, what chooses the epoch, and what is scored at the end."""

import json
from pathlib import Path

import pytest

from tests.conftest import coloured_squares
from tests.test_training import tiny, train
from tinynet.config import Evaluation, Model
from tinynet.errors import UserError
from tinynet.packing import pack
from tinynet.tracking import read_metrics


def test_holdout_chooses_the_epoch_by_a_part_of_train_and_scores_val_once(
    shards: Path, tmp_path: Path
) -> None:
    run = train(
        tiny(shards, tmp_path, protocol="holdout", evaluation=Evaluation(flip=True), epochs=3)
    )
    summary = json.loads((run / "summary.json").read_text())
    evaluations = [line for line in read_metrics(run) if line["kind"] == "evaluation"]
    assert (summary["train_samples"], summary["protocol"]) == (108, "holdout")
    assert [line["samples"] for line in evaluations] == [12, 12, 12]
    assert summary["samples"] == summary["flipped"]["samples"] == 37
    best = max(line["top1"] for line in evaluations)
    assert summary["best"]["top1"] == pytest.approx(best, abs=1e-3)
    # The scores are those of the best weights on val, as evaluating them again shows.
    again = train(
        tiny(
            shards,
            tmp_path,
            run_name="again",
            epochs=0,
            model=Model(name="svm", checkpoint=str(run)),
        )
    )
    for name in ("top1", "loss", "weights_sha256"):
        assert json.loads((again / "summary.json").read_text())[name] == summary[name], name


def test_holdout_needs_ten_pictures_of_a_class(tmp_path: Path) -> None:
    pack(coloured_squares(train=36), tmp_path / "few", lambda _: None)
    with pytest.raises(UserError, match="--protocol holdout takes a tenth of every class"):
        train(tiny(tmp_path / "few", tmp_path, protocol="holdout"))
