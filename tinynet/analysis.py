"""What goes wrong: numbers from exact predictions, nothing drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tinynet.evaluation import Predictions


@dataclass(frozen=True)
class Pair:
    """``count`` samples of class ``true`` were taken for class ``predicted``."""

    true: int
    predicted: int
    count: int


@dataclass(frozen=True)
class ClassReport:
    """One class: its samples, how many were right, and its mistakes, most confident first."""

    label: int
    name: str
    count: int
    correct: int
    mistakes: Tensor
    """Sample ids, int64."""
    rival: Pair | None
    """The class it was most often taken for; ``None`` without mistakes."""

    @property
    def accuracy(self) -> float:
        """Percent of the samples that were right; NaN for a class without samples."""
        return 100 * self.correct / self.count if self.count else float("nan")


@dataclass(frozen=True)
class Analysis:
    """``predicted`` int64 (n,), ``confidence`` float (n,): the highest class and its probability.

    ``confusion[i, j]``, int64, counts samples of class i that were taken for class j. Ids of
    samples are row numbers. With a hinge loss the softmax is no probability, but orders samples
    all the same.
    """

    labels: Tensor
    predicted: Tensor
    confidence: Tensor
    confusion: Tensor
    classes: tuple[ClassReport, ...]


def analyse(predictions: Predictions, class_names: tuple[str, ...]) -> Analysis:
    """Count and sort the mistakes of a model.

    Of equal logits the first class counts, as in the accuracies of the evaluation; a NaN is never
    the highest. Raises ``ValueError`` if the logits are not one for each of ``class_names``.
    """
    size, labels = len(class_names), predictions.labels
    if predictions.logits.shape[1] != size:
        raise ValueError(f"{predictions.logits.shape[1]} logits for {size} class names")
    logits = predictions.logits.masked_fill(predictions.logits.isnan(), -torch.inf)
    # Not the highest probability: rounding makes equal ones of different logits.
    predicted = logits.argmax(1)
    confidence = logits.softmax(1).gather(1, predicted[:, None]).squeeze(1).nan_to_num(0)
    confusion = torch.bincount(labels * size + predicted, minlength=size * size).view(size, size)
    wrong = (predicted != labels).nonzero().flatten()
    wrong = wrong[confidence[wrong].argsort(descending=True, stable=True)]
    reports = tuple(
        ClassReport(
            label=label,
            name=name,
            count=int(confusion[label].sum()),
            correct=int(confusion[label, label]),
            mistakes=wrong[labels[wrong] == label],
            rival=_rival(confusion[label], label),
        )
        for label, name in enumerate(class_names)
    )
    return Analysis(labels, predicted, confidence, confusion, reports)


def most_misclassified(analysis: Analysis, count: int = 5) -> list[ClassReport]:
    """The classes with the lowest accuracy, worst first; ties in label order."""
    present = [report for report in analysis.classes if report.count]
    return sorted(present, key=lambda report: report.accuracy)[:count]


def least_misclassified(analysis: Analysis, count: int = 5) -> list[ClassReport]:
    """The classes with the highest accuracy, best first, those without an error included."""
    present = [report for report in analysis.classes if report.count]
    return sorted(present, key=lambda report: -report.accuracy)[:count]


def confused_pairs(analysis: Analysis, count: int = 10) -> list[Pair]:
    """The most frequent confusions, each direction for itself, worst first."""
    off_diagonal = analysis.confusion.clone().fill_diagonal_(0).flatten()
    order = off_diagonal.argsort(descending=True, stable=True)[:count].tolist()
    size = len(analysis.confusion)
    return [Pair(i // size, i % size, int(off_diagonal[i])) for i in order if off_diagonal[i] > 0]


def worst_mistakes(analysis: Analysis, count: int) -> Tensor:
    """Ids of the mistakes that the model was surest of, int64 (≤ count,)."""
    wrong = (analysis.predicted != analysis.labels).nonzero().flatten()
    order = analysis.confidence[wrong].argsort(descending=True, stable=True)
    return wrong[order[:count]]


def _rival(counts: Tensor, label: int) -> Pair | None:
    others = counts.clone()
    others[label] = 0
    predicted = int(others.argmax())
    return Pair(label, predicted, int(others[predicted])) if others[predicted] else None
