"""Analysis to figures. The only module that knows matplotlib; no window, no global state."""

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from tinynet.analysis import (
    Analysis,
    ClassReport,
    confused_pairs,
    least_misclassified,
    most_misclassified,
)
from tinynet.files import write_whole_with
from tinynet.shards import Split

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, ORANGE, RED, GREY = "#0072B2", "#E69F00", "#D55E00", "#999999"
PICTURES = 6  # beside a class's bar
Pictures = Callable[[Tensor], Tensor]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    write_whole_with(path, lambda aside: figure.savefig(aside, format="png", dpi=130))


def curves(lines: Sequence[dict[str, Any]]) -> Figure:
    """Loss, accuracies and learning rate over the epochs, from the lines of ``metrics.jsonl``.

    A line breaks where a value is null, that is NaN or infinite.
    """
    train = [line for line in lines if line["kind"] == "train"]
    val = [line for line in lines if line["kind"] == "evaluation"]
    figure = _figure(13, 4)
    loss, accuracy, rate = figure.subplots(1, 3)
    _line(loss, train, "loss", "train", BLUE)
    _line(loss, val, "loss", "val", ORANGE, "o-")
    _line(accuracy, train, "top5", "train top-5 (augmented)", BLUE, "--")
    _line(accuracy, train, "top1", "train top-1 (augmented)", BLUE)
    _line(accuracy, val, "top5", "val top-5", ORANGE, "o--")
    _line(accuracy, val, "top1", "val top-1", ORANGE, "o-")
    accuracy.set_ylim(bottom=0)
    _line(rate, train, "lr", "learning rate", GREY)
    rate.set_ylim(bottom=0)
    for axes, title in ((loss, "loss"), (accuracy, "accuracy, %"), (rate, "learning rate")):
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
        _tidy(axes)
        if axes.lines and axes is not rate:
            axes.legend(frameon=False, fontsize=8)
    return figure


def misclassified(analysis: Analysis, pictures: Pictures) -> Figure:
    """The five most and the five least misclassified classes, with pictures beside the bars.

    A picture in a red frame is a mistake, titled with what it was taken for; a class without
    mistakes shows right answers. ``pictures`` gives uint8 (n, H, W, C) for sample ids.
    """
    groups = {
        "most misclassified": most_misclassified(analysis),
        "least misclassified": least_misclassified(analysis),
    }
    rows = sum(len(reports) for reports in groups.values())
    figure = _figure(13, 1.25 * rows + 1.4)
    figure.suptitle("right (blue) and wrong (red) answers by class")
    grid = figure.add_gridspec(max(1, rows), PICTURES + 3)
    row = 0
    for title, reports in groups.items():
        for place, report in enumerate(reports):
            axes = figure.add_subplot(grid[row, :3])
            if place == 0:
                axes.set_title(title, loc="left", fontweight="bold")
            _class_bar(axes, analysis, report)
            ids, right = _examples(analysis, report)
            for column, (sample, image) in enumerate(zip(ids.tolist(), pictures(ids), strict=True)):
                frame = figure.add_subplot(grid[row, 3 + column])
                taken_for = analysis.classes[int(analysis.predicted[sample])].name
                _picture(frame, image, "" if right else f"→ {taken_for}", BLUE if right else RED)
            row += 1
    return figure


def worst_pairs(analysis: Analysis) -> Figure:
    """The most frequent confusions: how often, and the confusion matrix of the classes in them."""
    pairs = confused_pairs(analysis)
    if not pairs:
        figure = _figure(6, 2)
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", fontsize=20)
        return figure
    figure = _figure(15, 6.5)
    bars, matrix = figure.subplots(1, 2)
    names = [report.name for report in analysis.classes]
    labels = [f"{_short(names[p.true], 24)} → {_short(names[p.predicted], 24)}" for p in pairs]
    bars.barh(range(len(pairs)), [pair.count for pair in pairs], color=RED, height=0.6)
    bars.bar_label(bars.containers[0], padding=3)
    bars.set_yticks(range(len(pairs)), labels)
    bars.set_xticks([])
    bars.set_ylim(max(len(pairs), 4) - 0.5, -0.5)
    bars.set_title("most frequent confusions: true → predicted", loc="left", fontweight="bold")
    _tidy(bars)
    bars.spines["bottom"].set_visible(False)
    involved = sorted({label for pair in pairs for label in (pair.true, pair.predicted)})
    counts = analysis.confusion[involved][:, involved].numpy()
    shown = 100 * counts / analysis.confusion[involved].sum(1, keepdim=True).clamp(min=1).numpy()
    image = matrix.imshow(shown, cmap="Blues", vmin=0)
    ticks = [_short(names[label], 18) for label in involved]
    matrix.set_xticks(range(len(involved)), ticks, rotation=60, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(len(involved)), ticks)
    matrix.set_xlabel("predicted")
    matrix.set_ylabel("true")
    matrix.set_title("confusion matrix of their classes", loc="left", fontweight="bold")
    for i, line in enumerate(counts.tolist()):
        for j, count in enumerate(line):
            if count:
                colour = "white" if shown[i, j] > shown.max() / 2 else "black"
                matrix.text(j, i, count, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=matrix, shrink=0.6, label="% of the true class")
    return figure


def contact_sheet(split: Split, classes: int = 10, per_class: int = 10) -> Figure:
    """The first pictures of evenly spread classes, a row for each."""
    names = split.manifest.class_names
    labels = [round(i * (len(names) - 1) / max(1, classes - 1)) for i in range(classes)]
    labels = sorted(set(labels))
    figure = Figure(figsize=(per_class + 2.5, len(labels) + 0.3), layout="constrained")
    cells = figure.subplots(len(labels), per_class, squeeze=False)
    for row, label in zip(cells, labels, strict=True):
        for cell in row:
            cell.axis("off")
        ids = (split.labels == label).nonzero().flatten()[:per_class]
        for cell, image in zip(row, split.gather(ids), strict=False):
            _show(cell, image)
        title = _wrapped(names[label], 20)
        row[0].text(-0.1, 0.5, title, transform=row[0].transAxes, ha="right", va="center")
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that keeps its texts off its edges."""
    return Figure((width, height), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))


def _line(
    axes: Axes, lines: Sequence[dict[str, Any]], key: str, label: str, colour: str, style: str = "-"
) -> None:
    points = [(line["epoch"], line[key]) for line in lines if key in line]
    if points:
        epochs = [epoch for epoch, _ in points]
        values = [math.nan if value is None else value for _, value in points]
        # A single point would be no line at all.
        if len(points) == 1:
            style = "x" if "--" in style else "o"
        axes.plot(epochs, values, style, label=label, color=colour, markersize=4)


def _class_bar(axes: Axes, analysis: Analysis, report: ClassReport) -> None:
    axes.barh([0], [report.accuracy], color=BLUE, height=0.4)
    axes.barh([0], [100 - report.accuracy], left=[report.accuracy], color=RED, height=0.4)
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.8, 0.9)
    axes.axis("off")
    share = f"{report.accuracy:.0f} %  ({report.correct}/{report.count})"
    axes.text(0, 0.3, _short(report.name, 34), va="bottom", fontsize=11)
    axes.text(100, 0.3, share, va="bottom", ha="right", fontsize=10)
    if report.rival:
        rival = analysis.classes[report.rival.predicted].name
        text = f"most often taken for {_short(rival, 30)} ({report.rival.count})"
        axes.text(0, -0.3, text, va="top", fontsize=8, color="#555555")


def _examples(analysis: Analysis, report: ClassReport) -> tuple[Tensor, bool]:
    """Ids of the surest mistakes of a class, or of right answers if there are no mistakes."""
    if len(report.mistakes):
        return report.mistakes[:PICTURES], False
    own = (analysis.labels == report.label).nonzero().flatten()
    return own[:PICTURES], True


def _picture(axes: Axes, image: Tensor, title: str, colour: str) -> None:
    _show(axes, image)
    axes.set_title(_wrapped(title, 16), fontsize=7.5, pad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)


def _show(axes: Axes, image: Tensor) -> None:
    pixels = image.numpy()
    grey = pixels.shape[2] == 1
    axes.imshow(
        pixels[:, :, 0] if grey else pixels, cmap="gray" if grey else None, vmin=0, vmax=255
    )


def _tidy(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(text: str, length: int) -> str:
    return text[: length - 1].rstrip(" ,") + "…" if len(text) > length else text


def _wrapped(text: str, width: int) -> str:
    lines = textwrap.wrap(text, width, max_lines=2, placeholder="…")
    return "\n".join(lines).replace(",…", "…")
