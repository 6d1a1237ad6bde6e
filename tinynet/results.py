"""The table of results: one row per config, written by ``launch/reproduce.py`` alone."""

import hashlib
import statistics
from dataclasses import dataclass, fields
from pathlib import Path

from tinynet.errors import UserError
from tinynet.files import write_whole

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
"""A document shows the table between these two lines."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a config gave, as text; scores in percent, ``mean ± standard deviation`` over seeds."""

    config: str
    top1: str
    top5: str
    seeds: str
    minutes: str
    protocol: str
    data: str
    hardware: str
    commit: str
    hash: str
    command: str


HEADINGS = Row(
    config="config",
    top1="top-1 %",
    top5="top-5 %",
    seeds="seeds",
    minutes="minutes",
    protocol="protocol",
    data="data",
    hardware="hardware",
    commit="commit",
    hash="config sha256",
    command="command",
)


def mean_and_deviation(values: list[float]) -> str:
    """``46.12 ± 0.20``, or the number alone if there is but one."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def config_hash(path: Path) -> str:
    """The first eight digits of the file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def put_row(row: Row, document: Path) -> None:
    """Add the row to a document's table, or replace the one of the same config.

    Raises ``UserError`` if the document has no place for a table.
    """
    rows = {old.config: old for old in rows_of(document)} | {row.config: row}
    before, _, rest = document.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    lines = [_line(HEADINGS), "|" + "---|" * len(fields(Row))]
    lines += [_line(rows[name]) for name in sorted(rows)]
    write_whole(document, "\n".join((before + BEGIN, *lines, END + after)))


def rows_of(document: Path) -> list[Row]:
    """The rows of a document's table; ``UserError`` if it has no place for one."""
    text = document.read_text()
    if BEGIN not in text or END not in text.partition(BEGIN)[2]:
        raise UserError(f"{document} has no lines {BEGIN} and {END}: restore them")
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    names = [field.name for field in fields(Row)]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [Row(**dict(zip(names, row, strict=True))) for row in cells]


def _line(row: Row) -> str:
    return "| " + " | ".join(str(getattr(row, field.name)) for field in fields(Row)) + " |"
