from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from tinynet.analysis import analyse
from tinynet.evaluation import Predictions
from tinynet.plots import contact_sheet, curves, misclassified, save_figure, worst_pairs
from tinynet.shards import Split


def texts(figure: Figure) -> str:
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))]
    return "\n".join(found)


def pictures(ids: torch.Tensor, channels: int = 3) -> torch.Tensor:
    return torch.zeros(len(ids), 8, 8, channels, dtype=torch.uint8)


def predictions(classes: int, right: float) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes * 10) % classes
    logits = torch.randn(len(labels), classes, generator=generator)
    sure = torch.rand(len(labels), generator=generator) < right
    logits[sure, labels[sure]] += 20
    return Predictions(torch.arange(len(labels)), labels, logits)


@pytest.mark.parametrize(("classes", "right"), [(200, 0.5), (10, 1.0), (2, 0.5), (1, 1.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_mistakes_are_drawn_for_any_number_of_classes(
    tmp_path: Path, classes: int, right: float, channels: int
) -> None:
    names = tuple(f"class {i} with quite a long name" for i in range(classes))
    analysis = analyse(predictions(classes, right), names)
    figure = misclassified(analysis, lambda ids: pictures(ids, channels))
    assert "most misclassified" in texts(figure)
    assert (
        f"class {0 if classes == 1 else 1} with" in texts(misclassified(analysis, pictures))
        or classes > 10
    )
    save_figure(figure, tmp_path / "a.png")
    save_figure(worst_pairs(analysis), tmp_path / "b.png")
    assert imread(tmp_path / "a.png").shape[1] > 1000
    assert ("no mistakes" in texts(worst_pairs(analysis))) == (right == 1.0)


def test_the_worst_pair_is_named_with_its_count() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    analysis = analyse(Predictions(torch.arange(4), labels, logits), ("cat", "dog"))
    words = texts(worst_pairs(analysis))
    assert "cat → dog" in words
    assert "\n3" in words


def test_curves_draw_train_and_val() -> None:
    train = [
        {"kind": "train", "epoch": e / 4, "loss": 5 - e / 4, "lr": 0.1, "top1": 10.0 + e}
        for e in range(8)
    ]
    val = [
        {"kind": "evaluation", "epoch": e, "loss": 4.0, "top1": 9.0, "top5": 20.0} for e in (1, 2)
    ]
    loss, accuracy, rate = curves([*train, *val]).axes
    assert [line.get_label() for line in loss.lines] == ["train", "val"]
    assert len(accuracy.lines) == 3
    assert list(rate.lines[0].get_xdata()) == [e / 4 for e in range(8)]  # type: ignore[arg-type]


@pytest.mark.parametrize("lines", [[], [{"kind": "train", "epoch": 1, "loss": None, "lr": 0.1}]])
def test_curves_of_nearly_nothing_are_drawn(lines: list[dict[str, object]], tmp_path: Path) -> None:
    save_figure(curves(lines), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()


def test_a_contact_sheet_names_its_classes(shards: Path) -> None:
    words = texts(contact_sheet(Split(shards / "train")))
    assert all(f"class {label}" in words for label in range(4))
