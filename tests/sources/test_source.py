import re

from tinynet.sources.source import pictures_of


def keys(*names: str) -> list[str]:
    return [picture.key for picture in pictures_of((name, 0, name) for name in names)]


def test_clean_names_stay_as_they_are() -> None:
    assert keys("n01443537_0", "val_17", "cat/a-b_c") == ["n01443537_0", "val_17", "cat/a-b_c"]


def test_names_that_clean_to_the_same_key_are_numbered() -> None:
    assert keys("a b", "a.b", "a_b") == ["a_b", "a_b_2", "a_b_3"]
    assert keys("a_b_2", "a b", "a.b", "a_b") == ["a_b_2", "a_b", "a_b_3", "a_b_4"]


def test_all_keys_are_unique_short_and_safe() -> None:
    names = ["é" * 300] * 40 + ["x/" * 90 + str(i) for i in range(40)] + ["猫.犬"] * 40
    found = keys(*names)
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_/-]{0,89}", key) for key in found)
    assert found == keys(*names)


def test_many_clashes_take_no_time() -> None:
    assert len(set(keys(*["猫"] * 50_000))) == 50_000
