"""Files that appear whole or not at all: written aside, flushed, renamed, folder flushed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part.

    The new file is on the disk, not only in its cache, when this returns.
    """
    write_whole_with(path, lambda aside: _write(aside, data))


def write_whole_with(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    try:
        write(aside)
        flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    flush(path.parent)


def replace_folder(aside: Path, folder: Path) -> None:
    """Put the finished folder ``aside`` in the place of ``folder``, which may exist.

    A folder cannot be replaced in one step; for an instant ``folder`` is called
    ``previous(folder)``, and whoever looks for it must look there too.
    """
    for path in (*aside.iterdir(), aside):
        flush(path)
    old = previous(folder)
    if folder.exists():
        if old.exists():
            shutil.rmtree(old)
        folder.rename(old)
    aside.rename(folder)
    flush(folder.parent)
    if old.exists():
        shutil.rmtree(old)


def previous(folder: Path) -> Path:
    """Where ``replace_folder`` keeps the old folder while it puts the new one in its place."""
    return folder.with_name(f".{folder.name}.previous")


def flush(path: Path) -> None:
    """Force a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes | str) -> None:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
