"""Where pictures come from: every data set, seen as a list of pictures and a way to read one.

A new data set is a function ``path -> Source`` in one new file, and its line in ``SOURCES``.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinynet.errors import UserError
from tinynet.sources.idx import fashion_mnist, fetch_fashion_mnist, fetch_mnist, mnist
from tinynet.sources.image_folder import image_folder
from tinynet.sources.sample import sample, sample_folder
from tinynet.sources.source import Picture, Source
from tinynet.sources.tiny_imagenet import fetch_tiny_imagenet, tiny_imagenet

__all__ = ["SOURCES", "Opener", "Picture", "Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Opener:
    """How to ``read`` a data set from a path, and how to ``fetch`` it into a cache without one.

    ``mirrored`` if ``fetch`` takes the URL of a mirror besides the cache.
    """

    read: Callable[[Path], Source]
    fetch: Callable[..., Path] | None = None
    mirrored: bool = False


SOURCES = {
    "tiny-imagenet": Opener(tiny_imagenet, fetch_tiny_imagenet, mirrored=True),
    "mnist": Opener(mnist, fetch_mnist),
    "fashion-mnist": Opener(fashion_mnist, fetch_fashion_mnist),
    "image-folder": Opener(image_folder),
    "sample": Opener(sample, sample_folder),
}
"""Every data set by name."""


def open_source(name: str, path: Path | None, cache: Path, url: str | None = None) -> Source:
    """Open a data set by name, from ``path`` or, if None, fetched into ``cache``.

    ``url`` is a mirror to download from. Raises ``UserError`` if the name is unknown, the options
    do not go together, or the data is not as it should be.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name.lower(), SOURCES, 1, 0.4) or sorted(SOURCES)
        raise UserError(f"--source {name} is not known: did you mean {' or '.join(near)}?")
    opener = SOURCES[name]
    if url is not None and (path is not None or not opener.mirrored):
        with_what = "--path" if opener.mirrored else f"--source {name}"
        raise UserError(f"--url {url} does not go with {with_what}: leave one of them out")
    if path is None:
        if opener.fetch is None:
            raise UserError(f"--source {name} needs --path: give the folder of your pictures")
        path = opener.fetch(cache, url) if opener.mirrored else opener.fetch(cache)
    return opener.read(path)
