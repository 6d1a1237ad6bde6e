"""Download a file whole: resumed where it broke off, checked, and only then given its name."""

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tinynet.errors import UserError
from tinynet.files import flush

BLOCK = 1 << 20
TIMEOUT = 60
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416


def download(url: str, to: Path, md5: str) -> Path:
    """Download ``url`` to ``to`` unless it is there; a broken download goes on where it stopped.

    Raises ``UserError`` if the server cannot be reached or the file has another ``md5``.
    """
    if to.exists():
        return to
    if not url.lower().startswith(("http://", "https://", "file:")):
        raise UserError(f"--url {url} is not a http, https or file address")
    part = to.with_name(f"{to.name}.part")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
        found = _md5(part)
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f"{url} could not be downloaded ({error}): run again to go on, or give a mirror with "
            "--url MIRROR, or a file of your own with --path FILE"
        ) from None
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url} is not the file wanted (md5 {found}, not {md5}) and was removed: run again, "
            "or give a mirror with --url MIRROR, or a file of your own with --path FILE"
        )
    flush(part)
    part.rename(to)
    flush(to.parent)
    return to


def _fetch(url: str, part: Path) -> None:
    """Append what is missing of ``part``; from the start if the server cannot do ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            # Nothing is left to send: the download broke between its end and its check.
            if error.code == RANGE_NOT_SATISFIABLE:
                return
            raise
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with response, Progress(*columns, TransferSpeedColumn()) as progress:
        if response.status != PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        task = progress.add_task(part.stem, total=total, completed=have)
        with part.open("ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                progress.advance(task, len(block))
            size = file.tell()
    if total is not None and size < total:
        raise ConnectionError(f"the connection broke after {size:,} of {total:,} bytes")


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
