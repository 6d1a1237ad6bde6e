from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from tinynet.analysis import analyse, least_misclassified, most_misclassified
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


@pytest.mark.parametrize(
    ("classes", "right", "channels"), [(200, 0.5, 3), (10, 1.0, 1), (2, 0.5, 3), (1, 1.0, 3)]
)
def test_mistakes_are_drawn_for_any_number_of_classes(
    tmp_path: Path, classes: int, right: float, channels: int
) -> None:
    names = tuple(f"class {i} with quite a long name" for i in range(classes))
    analysis = analyse(predictions(classes, right), names)
    figure = misclassified(analysis, lambda ids: pictures(ids, channels))
    words = texts(figure)
    assert "most misclassified" in words
    worst, best = most_misclassified(analysis)[0], least_misclassified(analysis)[0]
    assert f"class {worst.label} with" in words
    assert f"class {best.label} with" in words
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


def test_curves_break_where_a_value_is_no_number() -> None:
    losses = [3.0, None, 2.0]
    lines = [{"kind": "train", "epoch": e, "loss": loss} for e, loss in enumerate(losses)]
    (line,) = curves(lines).axes[0].lines
    assert np.isnan(np.asarray(line.get_ydata())).tolist() == [False, True, False]


def test_one_line_of_metrics_is_seen_as_a_point() -> None:
    (line,) = curves([{"kind": "train", "epoch": 1, "loss": 2.0}]).axes[0].lines
    assert line.get_marker() == "o"


def test_bars_share_out_a_class_and_mistakes_are_titled() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1])
    logits = torch.eye(2)[[0, 1, 1, 1, 1]]
    analysis = analyse(Predictions(torch.arange(5), labels, logits), ("cat", "dog"))
    figure = misclassified(analysis, pictures)
    worst = figure.axes[0]
    assert [patch.get_width() for patch in worst.patches] == [25, 75]  # type: ignore[attr-defined]
    words = texts(figure)
    assert "25 %  (1/4)" in words
    assert "most often taken for dog (3)" in words
    assert words.count("→ dog") == 2 * 3  # in both lists, as there are two classes only


def test_long_names_are_cut_and_stay_apart() -> None:
    names = ("European fire salamander, Salamandra salamandra", "x" * 60, "y" * 60)
    labels, predicted = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    analysis = analyse(Predictions(torch.arange(3), labels, torch.eye(3)[predicted]), names)
    figure = worst_pairs(analysis)
    ticks = [tick.get_text() for tick in figure.axes[1].get_yticklabels()]
    assert ticks == ["European fire sal…", "x" * 17 + "…", "y" * 17 + "…"]


def test_nothing_evaluated_is_drawn_too(tmp_path: Path) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    analysis = analyse(Predictions(none, none, torch.zeros(0, 2)), ("cat", "dog"))
    save_figure(misclassified(analysis, pictures), tmp_path / "a.png")
    assert "no mistakes" in texts(worst_pairs(analysis))


def test_a_contact_sheet_names_its_classes(shards: Path) -> None:
    words = texts(contact_sheet(Split(shards / "train")))
    assert all(f"class {label}" in words for label in range(4))
