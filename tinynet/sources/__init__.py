"""Where pictures come from: every data set, seen as a list of pictures and a way to read one.

A data set is one function in one file here that gives a ``Source``; ``SOURCES`` in
``tinynet/sources/catalogue.py`` lists them by name.
"""

from tinynet.sources.source import Picture, Source

__all__ = ["Picture", "Source"]
