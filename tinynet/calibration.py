"""Does the model know how sure it may be? Numbers from logits and labels, nothing drawn."""

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

BINS = 15
"""Bins of the confidence, as in Guo et al. (arXiv:1706.04599)."""


@dataclass(frozen=True)
class Calibration:
    """Confidences in equal bins of [0, 1], and how often the model was right in each.

    ``counts`` int64, ``confidence`` and ``accuracy`` float64 in 0…1, all (bins,); NaN in a bin
    without samples. ``error`` is the expected calibration error in percent, ``temperature`` what
    the logits are to be divided by, and ``error_at_temperature`` what then remains.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor
    error: float
    temperature: float
    error_at_temperature: float


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Calibration of float logits (n, classes) against int64 labels (n,)."""
    temperature = fit_temperature(logits, labels)
    counts, confidence, accuracy = reliability(logits, labels)
    return Calibration(
        counts,
        confidence,
        accuracy,
        expected_error(counts, confidence, accuracy),
        temperature,
        expected_error(*reliability(logits / temperature, labels)),
    )


def reliability(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, mean confidence and accuracy of each bin of the highest probability."""
    highest, predicted = logits.double().softmax(1).max(1)
    bins = (highest * BINS).long().clamp(max=BINS - 1)
    counts = bins.bincount(minlength=BINS)
    confidence = bins.bincount(highest, minlength=BINS) / counts
    accuracy = bins.bincount((predicted == labels).double(), minlength=BINS) / counts
    return counts, confidence, accuracy


def expected_error(counts: Tensor, confidence: Tensor, accuracy: Tensor) -> float:
    """Mean distance of confidence and accuracy, weighted by the samples of the bins, in percent."""
    gaps = (confidence - accuracy).abs().nan_to_num(0) * counts
    return float(100 * gaps.sum() / counts.sum().clamp(min=1))


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest cross entropy, between 1/32 and 32 (arXiv:1706.04599).

    Cross entropy has one minimum in 1/temperature; the interval is cut by golden sections.
    """
    if not len(labels):
        return 1.0

    def loss(power: float) -> float:
        return float(F.cross_entropy(logits.double() * 2.0**-power, labels))

    low, high, golden = -5.0, 5.0, (math.sqrt(5) - 1) / 2
    for _ in range(25):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(2.0 ** ((low + high) / 2))


def wilson_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a proportion, in percent (Wilson, 1927); 0 to 100 without samples."""
    if not count:
        return 0.0, 100.0
    share = right / count
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return 100 * max(0.0, center - half), 100 * min(1.0, center + half)
