import pytest
import torch

from tinynet.calibration import (
    calibrate,
    expected_error,
    fit_temperature,
    reliability,
    wilson_interval,
)


def drawn(temperature: float, samples: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too large by ``temperature``, and labels drawn with the right ones."""
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(samples, 10, generator=stream) * 2
    labels = torch.multinomial(logits.softmax(1), 1, generator=stream).flatten()
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature: float) -> None:
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.03)
    calibration = calibrate(logits, labels)
    assert calibration.error_at_temperature < 1.5
    assert (calibration.error > 5) == (temperature != 1)
    assert calibration.counts.sum() == len(labels)


def test_bins_by_hand() -> None:
    shares = torch.tensor([[0.99, 0.01], [0.98, 0.02], [0.55, 0.45]])
    counts, confidence, accuracy = reliability(shares.log(), torch.tensor([0, 1, 0]))
    assert counts.tolist() == [0] * 8 + [1] + [0] * 5 + [2]
    assert confidence[14] == pytest.approx(0.985)
    assert (accuracy[8], accuracy[14]) == (1.0, 0.5)
    expected = 100 * (2 * 0.485 + 0.45) / 3
    assert expected_error(counts, confidence, accuracy) == pytest.approx(expected, abs=1e-4)


def test_nothing_to_calibrate_is_no_error() -> None:
    calibration = calibrate(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert (calibration.error, calibration.temperature) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("right", "count", "interval"),
    # Worked out from the formula with z = 1.96.
    [(0, 10, (0, 27.75)), (5, 10, (23.66, 76.34)), (10, 10, (72.25, 100)), (0, 0, (0, 100))],
)
def test_wilson_intervals(right: int, count: int, interval: tuple[float, float]) -> None:
    assert wilson_interval(right, count) == pytest.approx(interval, abs=0.01)
