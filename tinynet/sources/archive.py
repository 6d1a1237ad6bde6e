"""A tree of files, in a folder or inside a zip, read through the same two functions."""

import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tinynet.errors import UserError

LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip member's local header: the lengths of its name and of its extra field."""


@dataclass(frozen=True, slots=True)
class Tree:
    """``names`` are relative, with slashes, sorted; ``read`` is safe in several threads."""

    where: Path
    names: tuple[str, ...]
    read: Callable[[str], bytes]


def open_tree(path: Path) -> Tree:
    """Open a folder or a zip; ``UserError`` if it is neither or its names lead out of it."""
    if path.is_dir():
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*"))
        return Tree(path, tuple(names), lambda name: (path / name).read_bytes())
    if not path.exists():
        raise UserError(f"--path {path} does not exist: give the zip or the unpacked folder")
    try:
        return _open_zip(path)
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{path} is not a whole zip file ({error}): download it again, or give a folder"
        ) from None


def _open_zip(path: Path) -> Tree:
    """Read the directory with zipfile, the members with ``pread``.

    ``ZipFile.read`` seeks one shared file under a lock and takes three times as long.
    """
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
    for name in members:
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name:
            raise UserError(f"{path} holds the unsafe name {name!r}: do not use this file")
    descriptor = os.open(path, os.O_RDONLY)

    def read(name: str) -> bytes:
        member = members[name]
        header = os.pread(descriptor, 30, member.header_offset)
        name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
        start = member.header_offset + 30 + name_bytes + extra_bytes
        data = os.pread(descriptor, member.compress_size, start)
        if member.compress_type == zipfile.ZIP_DEFLATED:
            inflater = zlib.decompressobj(-15)
            # One byte more than declared is enough to notice a member that is larger.
            data = inflater.decompress(data, member.file_size + 1)
        elif member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed in a way that is not supported")
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise ValueError(f"{name} in {path} is damaged (size or CRC differs)")
        return data

    return Tree(path, tuple(sorted(members)), read)
