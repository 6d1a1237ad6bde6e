"""The tables of results: one row per config, written by ``launch/reproduce.py`` alone."""

import hashlib
import statistics
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from tinynet.errors import UserError
from tinynet.files import write_whole

BEGIN, END = "<!-- results: {} -->", "<!-- end of results: {} -->"
"""A document shows a table between these two lines, which name it."""

Table = Literal["from scratch", "pretrained"]
"""What began with other people's weights stands apart."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a config gave, as text; scores in percent, ``mean ± standard deviation`` over seeds."""

    config: str
    top1: str
    top5: str
    flipped: str
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
    flipped="with mirror images",
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


def put_row(row: Row, document: Path, table: Table) -> None:
    """Add the row to a document's table, or replace the one of the same config.

    Raises ``UserError`` if the document has no place for the table.
    """
    rows = {old.config: old for old in rows_of(document, table)} | {row.config: row}
    begin, end = BEGIN.format(table), END.format(table)
    before, _, rest = document.read_text().partition(begin)
    after = rest.partition(end)[2]
    lines = [_line(HEADINGS), "|" + "---|" * len(fields(Row))]
    lines += [_line(rows[name]) for name in sorted(rows)]
    write_whole(document, "\n".join((before + begin, *lines, end + after)))


def rows_of(document: Path, table: Table) -> list[Row]:
    """The rows of a document's table; ``UserError`` if it has no place for it."""
    text, begin, end = document.read_text(), BEGIN.format(table), END.format(table)
    if begin not in text or end not in text.partition(begin)[2]:
        raise UserError(f"{document} has no lines {begin} and {end}: restore them")
    lines = text.partition(begin)[2].partition(end)[0].strip().splitlines()[2:]
    names = [field.name for field in fields(Row)]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [Row(**dict(zip(names, row, strict=True))) for row in cells]


def _line(row: Row) -> str:
    return "| " + " | ".join(str(getattr(row, field.name)) for field in fields(Row)) + " |"
