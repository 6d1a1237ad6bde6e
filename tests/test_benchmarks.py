"""The benchmarks run and print what they promise; how fast is not asserted."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import loader, step


def printed(
    module: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--json"])
    module.main()
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def test_loaders_are_compared(
    shards: Path, benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    few = ("plain copy", "tinynet npy", "tinynet jpg", "ImageFolder")
    monkeypatch.setattr(loader, "LOADERS", {name: loader.LOADERS[name] for name in few})
    arguments = ["--shards", str(shards), "--batch", "16", "--turns", "2", "--seconds", "0.05"]
    figures = benchmark.pedantic(
        printed, (loader, arguments, monkeypatch, capsys), rounds=1, iterations=1
    )
    assert set(figures) == set(loader.LOADERS)
    for name in few[1:]:
        for task in loader.TASKS:
            figure = figures[name][task]
            assert 0 < figure["lowest"] <= figure["images_per_second_per_core"] <= figure["highest"]
            assert 0 < figure["private_mb"] < figure["resident_mb"]
    text = loader.table(figures)
    assert len(text.splitlines()) == 2 + len(loader.LOADERS)
    assert "| ImageFolder |" in text


def test_a_missing_neighbour_is_listed_as_missing() -> None:
    figure = {
        "images_per_second_per_core": 1.0,
        **dict.fromkeys(("lowest", "highest", "resident_mb", "private_mb"), 1.0),
    }
    figures: dict[str, dict[str, Any]] = {
        name: {"a": figure, "b": figure} for name in loader.LOADERS
    }
    figures["FFCV raw"] = {"a": None, "b": None}
    assert "| FFCV raw | missing or failed |" in loader.table(figures)


def test_the_step_is_measured(
    shards: Path, benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    arguments = ["--shards", str(shards), "--model.name", "svm", "--global_batch_size", "24"]
    arguments += ["--cpu", "--updates", "2", "--turns", "2"]
    figures = benchmark.pedantic(
        printed, (step, arguments, monkeypatch, capsys), rounds=1, iterations=1
    )
    assert 0 < figures["lowest"] <= figures["ratio"] <= figures["highest"]
