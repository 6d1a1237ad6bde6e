import math

import pytest
import torch
from torch import Tensor

from tinynet.analysis import (
    Analysis,
    Pair,
    analyse,
    confused_pairs,
    least_misclassified,
    most_misclassified,
    worst_mistakes,
)
from tinynet.evaluation import Predictions, accuracies

NAMES = ("ant", "bee", "cat", "dog")
# (label, predicted, strength of the prediction), one per sample; no dog is ever shown.
SAMPLES = [
    (0, 0, 1.0),
    (0, 1, 2.0),
    (0, 1, 5.0),
    (1, 1, 1.0),
    (1, 0, 3.0),
    (2, 2, 1.0),
    (2, 2, 2.0),
]


def analysis(samples: list[tuple[int, int, float]] = SAMPLES) -> Analysis:
    logits = torch.zeros(len(samples), len(NAMES))
    for row, (_, predicted, strength) in enumerate(samples):
        logits[row, predicted] = strength
    labels = torch.tensor([label for label, _, _ in samples])
    return analyse(Predictions(torch.arange(len(samples)), labels, logits), NAMES)


def test_classes_are_counted() -> None:
    ant, bee, cat, dog = analysis().classes
    assert [(c.count, c.correct) for c in (ant, bee, cat, dog)] == [(3, 1), (2, 1), (2, 2), (0, 0)]
    assert bee.accuracy == 50
    assert math.isnan(dog.accuracy)


def test_mistakes_come_most_confident_first() -> None:
    assert analysis().classes[0].mistakes.tolist() == [2, 1]
    assert worst_mistakes(analysis(), 2).tolist() == [2, 4]
    assert worst_mistakes(analysis(), 99).tolist() == [2, 4, 1]


def test_classes_are_ranked_with_those_without_errors_and_without_empty_ones() -> None:
    assert [c.name for c in most_misclassified(analysis())] == ["ant", "bee", "cat"]
    assert [c.name for c in least_misclassified(analysis(), 2)] == ["cat", "bee"]


def test_confusions_keep_their_direction() -> None:
    assert confused_pairs(analysis()) == [Pair(0, 1, 2), Pair(1, 0, 1)]
    assert analysis().confusion[0].tolist() == [1, 2, 0, 0]
    assert int(analysis().confusion.sum()) == len(SAMPLES)


def test_a_perfect_model_has_no_mistakes() -> None:
    perfect = analysis([(label, label, 1.0) for label in range(4)])
    assert confused_pairs(perfect) == []
    assert worst_mistakes(perfect, 5).tolist() == []
    assert [c.name for c in most_misclassified(perfect, 2)] == ["ant", "bee"]


def test_confidence_is_the_softmax_of_the_prediction() -> None:
    assert analysis().confidence[2].item() == torch.tensor([0, 5.0, 0, 0]).softmax(0)[1].item()


def test_the_rival_is_the_most_frequent_wrong_class() -> None:
    assert [c.rival for c in analysis().classes] == [Pair(0, 1, 2), Pair(1, 0, 1), None, None]


def test_one_class_and_no_sample() -> None:
    one = analyse(Predictions(torch.arange(2), torch.zeros(2).long(), torch.ones(2, 1)), ("x",))
    assert one.confusion.tolist() == [[2]]
    assert one.confidence.tolist() == [1, 1]
    none = torch.zeros(0, dtype=torch.int64)
    empty = analyse(Predictions(none, none, torch.zeros(0, 4)), NAMES)
    assert not most_misclassified(empty)
    assert not least_misclassified(empty)
    assert not confused_pairs(empty)


@pytest.mark.parametrize(
    "logits",
    [
        torch.tensor([[0.0, 1e-9, 0.0, 0.0]] * 4),  # equal as probabilities
        torch.tensor([[2.0, 2.0, 2.0, 2.0]] * 4),
        torch.tensor([[torch.nan, 1.0, torch.nan, 0.0]] * 4),
        torch.tensor([[torch.inf, 1.0, torch.inf, 0.0]] * 4),
        torch.randn(4, 4, generator=torch.Generator().manual_seed(0)),
    ],
    ids=["close", "equal", "nan", "inf", "random"],
)
def test_right_answers_are_those_that_the_evaluation_counts(logits: Tensor) -> None:
    labels = torch.arange(4)
    found = analyse(Predictions(torch.arange(4), labels, logits), NAMES)
    top1, _ = accuracies(logits, labels)
    assert 100 * sum(report.correct for report in found.classes) / 4 == top1.item()
    assert found.confidence.isfinite().all()


def test_logits_of_other_classes_are_refused() -> None:
    predictions = Predictions(torch.arange(1), torch.zeros(1).long(), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="4 logits for 2 class names"):
        analyse(predictions, ("ant", "bee"))
