"""How classes are related: the tree of WordNet, for data sets whose class ids are wnids.

``wordnet.tsv`` holds a line (wnid, parent's wnid, name) for each class of Tiny ImageNet and all
that is above it, taken by ``launch/make_hierarchy.py`` from WordNet 3.0, Copyright 2006 by
Princeton University, whose licence lies beside it in ``wordnet.license``.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("wordnet.tsv")


class Node(NamedTuple):
    """A synset: its parent's wnid (empty for the root) and its first name."""

    parent: str
    name: str


@cache
def tree() -> dict[str, Node]:
    """Every synset of the table, by wnid."""
    lines = (line.split("\t") for line in TABLE.read_text().splitlines())
    return {wnid: Node(parent, name) for wnid, parent, name in lines}


def is_known(class_ids: Sequence[str]) -> bool:
    """Whether all classes are in the tree."""
    return all(class_id in tree() for class_id in class_ids)


def lineage(wnid: str) -> list[str]:
    """The synset, its parent, …, the root."""
    found = [wnid]
    while parent := tree()[found[-1]].parent:
        found.append(parent)
    return found


def distance(a: str, b: str) -> int:
    """Edges between two synsets along the tree; 0 for the same."""
    ours, theirs = lineage(a), lineage(b)
    shared = len(set(ours) & set(theirs))
    return len(ours) + len(theirs) - 2 * shared


def superclasses(class_ids: Sequence[str], groups: int = 20) -> dict[str, str]:
    """A coarser class for each class: its wnid → the group's wnid.

    Begins with one group and splits the largest one by the children of its root, until there are
    ``groups`` of them or nothing can be split.
    """
    group = dict.fromkeys(class_ids, lineage(class_ids[0])[-1])
    while len(set(group.values())) < groups:
        sizes = Counter(group.values())
        splittable = [wnid for wnid in sizes if any(at == wnid != c for c, at in group.items())]
        if not splittable:
            break
        largest = max(splittable, key=lambda wnid: (sizes[wnid], wnid))
        for class_id, at in group.items():
            if at == largest != class_id:
                path = lineage(class_id)
                group[class_id] = path[path.index(largest) - 1]
    return group
