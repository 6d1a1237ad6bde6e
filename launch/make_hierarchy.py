"""Make tinynet/wordnet.tsv, the parents of Tiny ImageNet's classes, from WordNet 3.0's database.

    python launch/make_hierarchy.py /usr/share/wordnet/data.noun shards/tiny-imagenet

The database is in Debian's package wordnet-base. A class id is a synset's offset in that file.
"""

import sys
from pathlib import Path

from tinynet.files import write_whole
from tinynet.hierarchy import TABLE, Node
from tinynet.shards import read_manifest


def main() -> None:
    """Follow the first hypernym of every class up to the root."""
    database, shards = map(Path, sys.argv[1:])
    synsets = read_synsets(database.read_text())
    wanted = list(read_manifest(shards / "train").class_ids)
    nodes: dict[str, Node] = {}
    while wanted:
        wnid = wanted.pop()
        if wnid not in nodes:
            nodes[wnid] = synsets[wnid]
            wanted += [parent] if (parent := synsets[wnid].parent) else []
    lines = (f"{wnid}\t{nodes[wnid].parent}\t{nodes[wnid].name}" for wnid in sorted(nodes))
    write_whole(TABLE, "\n".join(lines) + "\n")
    print(f"{len(nodes)} synsets in {TABLE}")


def read_synsets(text: str) -> dict[str, Node]:
    """All nouns by wnid; the format is described in WordNet's manual page wndb(5)."""
    synsets = {}
    for line in text.splitlines():
        if line.startswith("  "):  # the licence
            continue
        fields = line.split(" | ")[0].split()
        words = int(fields[3], 16)
        pointers = fields[5 + 2 * words :]
        parents = [
            f"n{target}"
            for symbol, target in zip(pointers[::4], pointers[1::4], strict=False)
            if symbol in ("@", "@i")
        ]
        name = fields[4].replace("_", " ")
        synsets[f"n{fields[0]}"] = Node(parents[0] if parents else "", name)
    return synsets


if __name__ == "__main__":
    main()
