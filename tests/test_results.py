"""The table of results, and that no config rots."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from tests.conftest import ROOT
from tinynet.errors import UserError
from tinynet.results import (
    BEGIN,
    END,
    Row,
    Table,
    config_hash,
    mean_and_deviation,
    put_row,
    rows_of,
)

ROW = Row(
    config="svm",
    top1="8.10 ± 0.20",
    top5="22.00",
    flipped="8.20 / 22.10",
    seeds="3",
    minutes="9.5",
    protocol="official",
    data="80,000 train, 10,000 val pictures",
    hardware="2 CPU cores",
    commit="abc1234",
    hash="01234567",
    command="`python launch/reproduce.py svm --seeds 3`",
)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "results.md"
    tables = (f"{BEGIN.format(name)}\n{END.format(name)}\n\n" for name in get_args(Table))
    path.write_text(f"# Results\n\n{''.join(tables)}After.\n")
    return path


def test_a_row_is_written_and_read_back(document: Path) -> None:
    put_row(ROW, document, "from scratch")
    assert rows_of(document, "from scratch") == [ROW]
    assert rows_of(document, "pretrained") == []
    text = document.read_text()
    assert text.startswith("# Results\n\n")
    assert text.endswith("\n\nAfter.\n")


def test_a_row_replaces_that_of_the_same_config_and_leaves_the_others(document: Path) -> None:
    put_row(ROW, document, "from scratch")
    put_row(replace(ROW, config="alexnet64"), document, "from scratch")
    put_row(replace(ROW, config="vgg"), document, "pretrained")
    put_row(replace(ROW, top1="9.00"), document, "from scratch")
    assert [row.config for row in rows_of(document, "pretrained")] == ["vgg"]
    assert [(row.config, row.top1) for row in rows_of(document, "from scratch")] == [
        ("alexnet64", "8.10 ± 0.20"),
        ("svm", "9.00"),
    ]


def test_a_document_without_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("nothing")
    with pytest.raises(UserError, match=r"x.md has no lines"):
        put_row(ROW, tmp_path / "x.md", "pretrained")


def test_scores_of_several_seeds_have_a_deviation() -> None:
    assert mean_and_deviation([46.0, 47.0, 48.0]) == "47.00 ± 1.00"
    assert mean_and_deviation([46.0]) == "46.00"


def test_the_readme_shows_the_table_of_the_results_and_of_the_configs_as_they_are() -> None:
    for table in get_args(Table):
        rows = rows_of(ROOT / "docs/results.md", table)
        assert rows_of(ROOT / "README.md", table) == rows
        for row in rows:
            assert config_hash(ROOT / f"configs/{row.config}.yaml") == row.hash, row.config


def test_every_config_still_trains_evaluates_and_explains() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "launch/reproduce.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    evaluated = {line.split(":")[0] for line in ran.stdout.splitlines() if "evaluated" in line}
    assert evaluated == {path.stem for path in (ROOT / "configs").glob("*.yaml")}


def test_an_unknown_config_is_said_in_one_line() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "launch/reproduce.py"), "alexnet46"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "alexnet46" in ran.stderr
    assert "alexnet64" in ran.stderr
    assert "Traceback" not in ran.stderr
