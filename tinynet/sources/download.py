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


def download(url: str, to: Path, md5: str) -> Path:
    """Download ``url`` to ``to`` unless it is there; a broken download goes on where it stopped.

    Raises ``UserError`` if the server cannot be reached or the file is not the right one.
    """
    if to.exists():
        return to
    if not url.startswith(("http://", "https://", "file:")):
        raise UserError(f"--url {url} is not a http, https or file address")
    part = to.with_name(f"{to.name}.part")
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part)
    except (OSError, HTTPException) as error:
        raise UserError(
            f"{url} could not be downloaded ({error}): run again to go on, give another place "
            "with --url, or a file of your own with --path"
        ) from None
    found = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url} is another file than expected (md5 {found}, not {md5}): try another --url"
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
        response = urllib.request.urlopen(request, timeout=60)
    except HTTPError as error:
        with error:
            if error.code == 416:  # nothing is left to send; the hash will tell
                return
            raise
    columns = (TextColumn(part.stem), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with response, Progress(*columns) as progress:
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        task = progress.add_task("download", total=total, completed=have)
        with part.open("ab" if have else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                progress.advance(task, len(block))
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"the connection broke after {part.stat().st_size:,} bytes")
