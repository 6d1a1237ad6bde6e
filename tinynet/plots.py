"""Analysis to figures. The only module that knows matplotlib; no window, no global state."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#999999"
PICTURES = 6  # beside a class's bar
Pictures = Callable[[Tensor], Tensor]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    write_whole_with(path, lambda aside: figure.savefig(aside, format="png", dpi=130))


def curves(lines: Sequence[dict[str, Any]]) -> Figure:
    """Loss, accuracies and learning rate over the epochs, from the lines of ``metrics.jsonl``."""
    train = [line for line in lines if line["kind"] == "train"]
    val = [line for line in lines if line["kind"] == "evaluation"]
    figure = Figure(figsize=(13, 4), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _line(loss, train, "loss", "train", BLUE)
    _line(loss, val, "loss", "val", ORANGE, marker="o")
    loss.set_title("loss")
    _line(accuracy, val, "top5", "val top-5", GREEN, marker="o")
    _line(accuracy, val, "top1", "val top-1", ORANGE, marker="o")
    _line(accuracy, train, "top1", "train top-1 (augmented)", BLUE)
    accuracy.set_title("accuracy, %")
    accuracy.set_ylim(bottom=0)
    _line(rate, train, "lr", "learning rate", GREY)
    rate.set_title("learning rate")
    rate.set_ylim(bottom=0)
    for axes in (loss, accuracy, rate):
        _tidy(axes)
        axes.set_xlabel("epoch")
        if axes.lines and axes is not rate:
            axes.legend(frameon=False)
    return figure


def misclassified(analysis: Analysis, pictures: Pictures) -> Figure:
    """The five most and the five least misclassified classes, with pictures beside the bars.

    A red frame is a mistake, titled with what it was taken for; a green one was right.
    ``pictures`` gives uint8 (n, H, W, C) for sample ids.
    """
    groups = {
        "most misclassified": most_misclassified(analysis),
        "least misclassified": least_misclassified(analysis),
    }
    rows = sum(len(reports) for reports in groups.values())
    figure = Figure(figsize=(13, 1.25 * rows + 1.4), layout="constrained")
    figure.suptitle("accuracy by class, with mistakes (red) or right answers (green)")
    grid = figure.add_gridspec(rows, PICTURES + 3)
    row = 0
    for (title, reports), colour in zip(groups.items(), (RED, GREEN), strict=True):
        for place, report in enumerate(reports):
            axes = figure.add_subplot(grid[row, :3])
            if place == 0:
                axes.set_title(title, loc="left", fontweight="bold")
            _class_bar(axes, report, colour)
            ids, right = _examples(analysis, report)
            for column, (sample, image) in enumerate(zip(ids.tolist(), pictures(ids), strict=True)):
                frame = figure.add_subplot(grid[row, 3 + column])
                taken_for = analysis.classes[int(analysis.predicted[sample])].name
                _picture(frame, image, "" if right else taken_for, GREEN if right else RED)
            row += 1
    return figure


def worst_pairs(analysis: Analysis) -> Figure:
    """The most frequent confusions: how often, and the confusion matrix of the classes in them."""
    pairs = confused_pairs(analysis)
    figure = Figure(figsize=(15, 6.5), layout="constrained")
    if not pairs:
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center", fontsize=20)
        return figure
    bars, matrix = figure.subplots(1, 2)
    names = [report.name for report in analysis.classes]
    labels = [f"{_short(names[p.true], 24)} → {_short(names[p.predicted], 24)}" for p in pairs]
    bars.barh(range(len(pairs)), [pair.count for pair in pairs], color=RED)
    bars.bar_label(bars.containers[0], padding=3)
    bars.set_yticks(range(len(pairs)), labels)
    bars.invert_yaxis()
    bars.set_title("most frequent confusions (true → predicted), pictures")
    _tidy(bars)
    involved = sorted({label for pair in pairs for label in (pair.true, pair.predicted)})[:20]
    counts = analysis.confusion[involved][:, involved].numpy()
    shown = 100 * counts / analysis.confusion[involved].sum(1, keepdim=True).clamp(min=1).numpy()
    image = matrix.imshow(shown, cmap="Blues", vmin=0)
    ticks = [_short(names[label], 18) for label in involved]
    matrix.set_xticks(range(len(involved)), ticks, rotation=60, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(len(involved)), ticks)
    matrix.set_xlabel("predicted")
    matrix.set_ylabel("true")
    matrix.set_title("their classes, pictures (colour: % of the true class)")
    for i, line in enumerate(counts.tolist()):
        for j, count in enumerate(line):
            if count:
                colour = "white" if shown[i, j] > shown.max() / 2 else "black"
                matrix.text(j, i, count, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=matrix, shrink=0.6)
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


def _line(
    axes: Axes, lines: Sequence[dict[str, Any]], key: str, label: str, colour: str, marker: str = ""
) -> None:
    values = [(line["epoch"], line[key]) for line in lines if line.get(key) is not None]
    if values:
        # A single point would be no line at all.
        style = marker or ("." if len(values) == 1 else "")
        axes.plot(*zip(*values, strict=True), label=label, color=colour, marker=style, ms=4)


def _class_bar(axes: Axes, report: ClassReport, colour: str) -> None:
    axes.barh([0], [report.accuracy], color=colour, height=0.5)
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.5, 0.9)
    axes.set_yticks([])
    axes.set_xticks([])
    axes.text(0, 0.42, _short(report.name, 34), va="bottom", fontsize=11)
    axes.text(
        100,
        0.42,
        f"{report.accuracy:.0f} %  ({report.correct}/{report.count})",
        va="bottom",
        ha="right",
        fontsize=10,
    )
    _tidy(axes)
    axes.spines["bottom"].set_visible(False)


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
    return text[: length - 1].rstrip() + "…" if len(text) > length else text


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder="…"))
