"""A tree of files, in a folder or inside a zip, read through the same two functions."""

import os
import struct
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinynet.errors import UserError

LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a zip member's local header: signature, the lengths of its name and of its extra field."""

USUAL_EXTRA = 64
"""Bytes; the fields of times and owners that zip programs add to a local header."""

ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class Tree:
    """Files below ``where``, without hidden ones.

    ``names`` are relative, with slashes, sorted; those of folders end in a slash. ``read`` gives
    a file's bytes, is safe in several threads, and raises ``OSError`` or ``ValueError``.
    """

    where: Path
    names: tuple[str, ...]
    read: Callable[[str], bytes]

    def text(self, name: str) -> str:
        """A small text file; ``UserError`` if it cannot be read."""
        try:
            return self.read(name).decode()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{name} in {self.where} cannot be read ({error}): get the data set again"
            ) from None


def open_tree(path: Path) -> Tree:
    """Open a folder or a zip; ``UserError`` if it is neither or its names lead out of it."""
    if not path.exists():
        raise UserError(f"--path {path} does not exist: give the zip or the folder of the data set")
    names, read = _open_folder(path) if path.is_dir() else _open_zip(path)
    return Tree(path, tuple(sorted(name for name in names if not _hidden(name))), read)


def _hidden(name: str) -> bool:
    """Also what the macOS Finder puts into zips: ``__MACOSX/…/._picture.JPEG``."""
    return name.startswith((".", "__MACOSX/")) or "/." in name


def _open_folder(path: Path) -> tuple[Iterator[str], Callable[[str], bytes]]:
    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): make it readable")

    def walk() -> Iterator[str]:
        for folder, folders, files in os.walk(path, onerror=refuse, followlinks=True):
            below = folder.removeprefix(str(path)).strip("/")
            prefix = f"{below}/" if below else ""
            yield from (f"{prefix}{name}/" for name in folders)
            yield from (prefix + name for name in files)

    def read(name: str) -> bytes:
        with open(f"{path}/{name}", "rb") as file:
            return file.read()

    return walk(), read


def _open_zip(path: Path) -> tuple[Iterator[str], Callable[[str], bytes]]:
    """Read the directory with zipfile, the members with ``pread``.

    ``ZipFile.read`` seeks one shared file under a lock: two threads are slower than one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
        descriptor = os.open(path, os.O_RDONLY)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is not a whole zip file ({error}): download it again, or give a folder"
        ) from None
    for name in members:
        if name.startswith("/") or "\\" in name or (".." in name and ".." in name.split("/")):
            raise UserError(f"{path} holds the unsafe name {name!r}: get the file elsewhere")

    def read(name: str) -> bytes:
        try:
            return _read_member(descriptor, members[name])
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"{name} in {path} is damaged: {error}") from None

    weakref.finalize(read, os.close, descriptor)
    return iter(members), read


def _read_member(descriptor: int, member: zipfile.ZipInfo) -> bytes:
    # One read takes header and contents: every call lets go of the interpreter lock, and waking
    # up again costs more than the reading.
    room = LOCAL_HEADER.size + len(member.filename.encode()) + USUAL_EXTRA
    data = os.pread(descriptor, room + member.compress_size, member.header_offset)
    signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(data)
    if signature != b"PK\3\4":
        raise ValueError("its header is not where the directory says")
    if member.flag_bits & ENCRYPTED:
        raise ValueError("it is encrypted")
    start = LOCAL_HEADER.size + name_bytes + extra_bytes
    if start > room:
        data = os.pread(descriptor, start + member.compress_size, member.header_offset)
    data = data[start : start + member.compress_size]
    if member.compress_type == zipfile.ZIP_DEFLATED:
        # One byte more than declared is enough to notice a member that is larger.
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.file_size + 1)
    elif member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("it is compressed in a way that is not supported")
    if len(data) != member.file_size:
        raise ValueError(f"it is not of the declared {member.file_size:,} bytes")
    if zlib.crc32(data) != member.CRC:
        raise ValueError("its CRC differs")
    return data
