import subprocess
import sys
from pathlib import Path

import pytest

from tinynet.errors import UserError
from tinynet.sources import SOURCES, open_source


def test_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    for wrong, right in [
        ("tinyimagenet", "tiny-imagenet"),
        ("FashionMNIST", "fashion-mnist"),
        ("folder", "image-folder"),
    ]:
        with pytest.raises(UserError, match=f"did you mean {right}"):
            open_source(wrong, None, tmp_path)
    with pytest.raises(UserError, match="fashion-mnist or image-folder or mnist or sample"):
        open_source("qqqq", None, tmp_path)


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs --path"):
        open_source("image-folder", None, tmp_path)
    with pytest.raises(UserError, match="--url x does not go with --source mnist"):
        open_source("mnist", None, tmp_path, "x")
    with pytest.raises(UserError, match="--url x does not go with --path"):
        open_source("tiny-imagenet", tmp_path, tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SOURCES)
def test_a_missing_path_is_named_by_every_source(tmp_path: Path, name: str) -> None:
    if name != "sample":  # which draws there
        with pytest.raises(UserError, match=f"--path {tmp_path / 'no'} does not exist"):
            open_source(name, tmp_path / "no", tmp_path)


def test_torch_is_not_imported() -> None:
    code = "import sys, tinynet.sources; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
