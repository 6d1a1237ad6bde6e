from collections import Counter

import pytest

from launch.make_hierarchy import read_synsets
from tinynet.hierarchy import Node, distance, is_known, lineage, superclasses, tree

GOLDFISH, BULLFROG, TAILED_FROG, TABBY, PERSIAN = (
    *("n01443537", "n01641577", "n01644900"),
    *("n02123045", "n02123394"),
)

LINES = """  1 the licence
00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is perceived
00001930 03 n 02 physical_entity 0 thing 1 002 @ 00001740 n 0000 ~ 00002452 n 0000 | exists
"""


def test_synsets_are_read_from_wordnet_s_file() -> None:
    assert read_synsets(LINES) == {
        "n00001740": Node("", "entity"),
        "n00001930": Node("n00001740", "physical entity"),
    }


def test_every_lineage_ends_at_the_root() -> None:
    assert {lineage(wnid)[-1] for wnid in tree()} == {"n00001740"}
    assert tree()[GOLDFISH].name == "goldfish"


def test_distances_are_those_of_the_tree() -> None:
    assert distance(TABBY, TABBY) == 0
    assert distance(TABBY, PERSIAN) == 2  # by way of the domestic cat
    assert distance(BULLFROG, TABBY) == distance(TABBY, BULLFROG)
    assert distance(BULLFROG, TAILED_FROG) < distance(BULLFROG, GOLDFISH)


def test_superclasses_part_the_classes_and_lie_above_them() -> None:
    classes = [wnid for wnid in tree() if wnid not in {node.parent for node in tree().values()}]
    groups = superclasses(classes)
    assert list(groups) == classes
    assert all(group in lineage(wnid) for wnid, group in groups.items())
    assert 20 <= len(set(groups.values())) <= 30
    assert max(Counter(groups.values()).values()) < 40
    assert set(superclasses(classes, 1).values()) == {"n00001740"}


def test_superclasses_end_where_nothing_can_be_split() -> None:
    assert superclasses([TABBY, PERSIAN]) == {TABBY: TABBY, PERSIAN: PERSIAN}


@pytest.mark.parametrize(("ids", "known"), [([TABBY, PERSIAN], True), ([TABBY, "cat"], False)])
def test_a_data_set_without_wnids_is_told(ids: list[str], known: bool) -> None:
    assert is_known(ids) == known
