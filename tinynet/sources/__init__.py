"""Where pictures come from: every data set, seen as a list of pictures and a way to read one.

A new data set is a function ``path -> Source`` in one new file, and its line in ``SOURCES``.
"""

import difflib
from collections.abc import Callable
from pathlib import Path

from tinynet.errors import UserError
from tinynet.sources.idx import fashion_mnist, fetch_fashion_mnist, fetch_mnist, mnist
from tinynet.sources.image_folder import image_folder
from tinynet.sources.sample import write_sample
from tinynet.sources.source import Picture, Source
from tinynet.sources.tiny_imagenet import fetch_tiny_imagenet, tiny_imagenet

__all__ = ["SOURCES", "Picture", "Source", "open_source"]

Fetch = Callable[[Path, str | None], Path]
SOURCES: dict[str, tuple[Callable[[Path], Source], Fetch | None]] = {
    "tiny-imagenet": (tiny_imagenet, fetch_tiny_imagenet),
    "mnist": (mnist, lambda cache, _: fetch_mnist(cache)),
    "fashion-mnist": (fashion_mnist, lambda cache, _: fetch_fashion_mnist(cache)),
    "image-folder": (image_folder, None),
    "sample": (tiny_imagenet, lambda cache, _: write_sample(cache / "sample")),
}
"""Name → how to read it from a path, and how to get it without one (into a cache, maybe a URL)."""


def open_source(name: str, path: Path | None, cache: Path, url: str | None = None) -> Source:
    """Open a data set by name, from ``path`` or, if None, fetched into ``cache``.

    Raises ``UserError`` if the name is unknown or the data is not as it should be.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, 1, 0.4) or sorted(SOURCES)
        raise UserError(f"--source {name} is not known: did you mean {' or '.join(near)}?")
    read, fetch = SOURCES[name]
    if path is None:
        if fetch is None:
            raise UserError(f"--source {name} needs --path")
        path = fetch(cache, url)
    return read(path)
