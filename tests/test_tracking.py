import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb as wandb_module
from matplotlib.figure import Figure

from tinynet import tracking
from tinynet.tracking import WandbSettings, open_tracker, read_metrics, trim_metrics

Picture = np.full((4, 4, 3), 7, np.uint8)


def settings(mode: str = "disabled") -> WandbSettings:
    return WandbSettings(mode=mode, project="p", name="n", id="abcd1234")  # type: ignore[arg-type]


def write(folder: Path, mode: str = "disabled", main: bool = True) -> None:
    with open_tracker(folder, main=main, wandb=settings(mode), config={"a": {"b": 1}}) as tracker:
        tracker.say("hello")
        tracker.progress(10, 0)
        tracker.log("train", {"samples": 64, "update": 1, "loss": torch.tensor(2.5)})
        tracker.advance(5)
        tracker.log("evaluation", {"samples": 64, "update": 1, "top1": 12.5})
        tracker.figure("curves", lambda: Figure(figsize=(1, 1)))
        tracker.table("mistakes", ["picture", "true"], [[Picture, "cat"], [Picture, "dog"]])
        tracker.summary({"top1": 12.5})


def records(run: Path) -> list[Any]:
    """Decode a ``.wandb`` file: 7 bytes of header, then LevelDB's log of 32 KiB blocks."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    data, at, buffer, found = path.read_bytes(), 7, b"", []
    assert data.startswith(b":W&B")
    while at < len(data):
        room = 32_768 - at % 32_768
        if room < 7:
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        buffer += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(buffer)
            found.append(record)
            buffer = b""
    return found


def finished_records(run: Path) -> list[Any]:
    """Those of a run that has ended; W&B's own process writes them a moment later."""
    for _ in range(200):
        found = records(run)
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.1)
    raise AssertionError("W&B did not end its run within 20 s")


def test_the_run_folder_gets_lines_pictures_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert read_metrics(tmp_path) == [
        {"kind": "train", "samples": 64, "update": 1, "loss": 2.5},
        {"kind": "evaluation", "samples": 64, "update": 1, "top1": 12.5},
    ]
    assert (tmp_path / "plots/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "tables/mistakes.csv").read_text() == "picture,true\n,cat\n,dog\n"
    assert capsys.readouterr().out == "hello\n"
    assert not (tmp_path / "wandb").exists()


def test_other_ranks_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, main=False, mode="offline")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    with open_tracker(tmp_path, main=True, wandb=settings(), config={}) as tracker:
        tracker.log("train", {"loss": float("nan"), "top1": float("inf"), "lr": 0.1})
    assert read_metrics(tmp_path) == [{"kind": "train", "loss": None, "top1": None, "lr": 0.1}]


def test_an_offline_wandb_run_holds_what_was_logged(tmp_path: Path) -> None:
    write(tmp_path, mode="offline")
    found = finished_records(tmp_path)
    (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project, run.display_name) == ("abcd1234", "p", "n")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["a"] == {"b": 1}
    history: dict[str, Any] = {}
    for record in found:
        for item in record.history.item:
            history["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
    assert history["train/loss"] == 2.5
    assert history["evaluation/top1"] == 12.5
    assert history["samples"] == 64
    assert history["curves/_type"] == "image-file"
    assert (history["mistakes/_type"], history["mistakes/nrows"]) == ("table-file", 2)
    summary = {
        item.key: json.loads(item.value_json)
        for record in found
        for item in record.summary.update
        if item.key
    }
    assert summary["top1"] == 12.5
    assert sum(record.WhichOneof("record_type") == "exit" for record in found) == 1


def test_wandb_learns_nothing_of_the_machine(tmp_path: Path) -> None:
    write(tmp_path, mode="offline")
    (run,) = [record.run for record in finished_records(tmp_path) if record.HasField("run")]
    assert run.host == ""
    assert run.git.remote_url == ""
    assert not list(tmp_path.glob("wandb/*/files/wandb-metadata.json"))
    assert not list(tmp_path.glob("wandb/*/files/requirements.txt"))


def test_wandb_says_nothing_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, mode="offline")
    assert capfd.readouterr() == ("hello\n", "")


@pytest.mark.parametrize(
    ("netrc", "mode"),
    [
        ("", "offline"),
        (f"machine api.wandb.ai login user password {'a' * 40}", "online"),
        (f"machine elsewhere.org login user password {'a' * 40}", "offline"),
    ],
)
def test_auto_is_online_if_wandb_finds_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netrc: str, mode: str
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text(netrc + "\n")
    asked: list[str] = []
    monkeypatch.setattr(wandb_module, "init", lambda **given: asked.append(given["mode"]))
    write(tmp_path, mode="auto")
    assert asked == [mode]


def test_a_table_holds_pictures_and_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path))  # W&B keeps a table's pictures there
    grey = np.zeros((4, 4, 1), np.uint8)
    rows: list[list[tracking.Cell]] = [["a", 1, grey], [None, None, Picture], ["b", 2.5, None]]
    with open_tracker(tmp_path, main=True, wandb=settings("offline"), config={}) as tracker:
        tracker.table("mistakes", ["name", "count", "picture"], rows)
    assert capsys.readouterr().out == ""
    staged = [path.read_bytes() for path in (tmp_path / "artifacts/staging").iterdir()]
    table = json.loads(next(text for text in staged if text.startswith(b'{"_type": "table"')))
    assert [row[:2] for row in table["data"]] == [["a", 1], [None, None], ["b", 2.5]]
    pictures = [row[2] and (row[2]["_type"], row[2]["width"]) for row in table["data"]]
    assert pictures == [("image-file", 4), ("image-file", 4), None]
    assert sum(text.startswith(b"\x89PNG") for text in staged) >= 2


def test_a_table_too_long_for_wandb_is_whole_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.sinks, "MAX_ROWS", 3)
    with open_tracker(tmp_path, main=True, wandb=settings("offline"), config={}) as tracker:
        tracker.table("long", ["i"], [[i] for i in range(5)])
    assert (tmp_path / "tables/long.csv").read_text().split() == ["i", "0", "1", "2", "3", "4"]
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/long*.json")
    assert json.loads(table.read_text())["data"] == [[0], [1], [2]]


def test_a_wandb_that_cannot_be_imported_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    write(tmp_path, mode="offline")
    assert capsys.readouterr().out.count("WARNING: Weights & Biases failed") == 1
    assert (tmp_path / "plots/curves.png").is_file()


def failing(*_: object, **__: object) -> None:
    raise ConnectionError("no network\nmore")


@pytest.mark.parametrize("broken", ["init", "log", "define_metric", "finish"])
def test_a_failing_wandb_is_said_once_and_stops_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    real_finish = wandb_module.Run.finish
    if broken == "init":
        monkeypatch.setattr(wandb_module, "init", failing)
    else:
        monkeypatch.setattr(wandb_module.Run, broken, failing)
    write(tmp_path, mode="offline")
    out = capsys.readouterr().out
    assert out.count("WARNING: Weights & Biases failed") == 1
    assert "ConnectionError: no network" in out.replace("\n", " ")
    assert len(read_metrics(tmp_path)) == 2
    if wandb_module.run is not None:
        real_finish(wandb_module.run)


@pytest.mark.parametrize(
    ("update", "kept"),
    [
        (0, []),
        (5, ["train 4", "evaluation 4", "train 5"]),
        (9, ["train 4", "evaluation 4", "train 5", "evaluation 5"]),
    ],
)
def test_lines_after_the_checkpoint_are_forgotten(
    tmp_path: Path, update: int, kept: list[str]
) -> None:
    lines = [
        json.dumps({"kind": kind, "update": u}) + "\n"
        for u in (4, 5)
        for kind in ("train", "evaluation")
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"kind": "tra')
    trim_metrics(tmp_path, update)
    assert [f"{line['kind']} {line['update']}" for line in read_metrics(tmp_path)] == kept
    trim_metrics(tmp_path / "nowhere", 3)


def test_a_failed_run_still_closes_its_sinks(tmp_path: Path) -> None:
    def fail() -> None:
        with open_tracker(tmp_path, main=True, wandb=settings(), config={}) as tracker:
            tracker.log("train", {"loss": 1.0})
            raise RuntimeError

    closing: Callable[[], None] = fail
    with pytest.raises(RuntimeError):
        closing()
    assert read_metrics(tmp_path) == [{"kind": "train", "loss": 1.0}]


def test_a_line_a_minute_takes_the_place_of_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "SECONDS_BETWEEN_LINES", 0.0)
    with open_tracker(tmp_path, main=True, wandb=settings(), config={}) as tracker:
        tracker.progress(200, 100)
        tracker.advance(50)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("75 %, ")
    assert line.endswith(" images/s, 0 min left")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_logging_does_not_make_the_host_wait_for_a_gpu(tmp_path: Path) -> None:
    loss = torch.ones((), device="cuda")
    with open_tracker(tmp_path, main=True, wandb=settings(), config={}) as tracker:
        torch.cuda.set_sync_debug_mode("error")
        try:
            tracker.log("train", {"loss": loss})
        finally:
            torch.cuda.set_sync_debug_mode("default")
        loss += 1  # after the copy, on the same stream
        assert read_metrics(tmp_path) == []
    assert read_metrics(tmp_path) == [{"kind": "train", "loss": 1.0}]
