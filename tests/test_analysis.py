import math

import torch

from tinynet.analysis import (
    Analysis,
    Pair,
    analyse,
    confused_pairs,
    least_misclassified,
    most_misclassified,
    worst_mistakes,
)
from tinynet.evaluation import Predictions

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
