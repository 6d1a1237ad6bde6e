from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tinynet.errors import UserError
from tinynet.evaluation import (
    Predictions,
    accuracies,
    assemble,
    load_predictions,
    pad,
    save_predictions,
    score,
)


def parts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Answers of two ranks for five samples, the second padded, in no order."""
    ids = torch.tensor([3, 0, 1, 4, 2, -1])
    return ids, ids * 10, ids[:, None] + torch.tensor([0.1, 0.2])


def test_predictions_are_put_in_order_without_padding() -> None:
    predictions = assemble(*parts(), samples=5)
    assert predictions.sample_ids.tolist() == [0, 1, 2, 3, 4]
    assert predictions.labels.tolist() == [0, 10, 20, 30, 40]
    assert predictions.logits[3].tolist() == pytest.approx([3.1, 3.2])


@pytest.mark.parametrize(("samples", "message"), [(6, "1 missing, 0 more"), (4, "0 missing")])
def test_a_gap_is_refused(samples: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assemble(*parts(), samples=samples)


def test_a_sample_scored_twice_is_refused() -> None:
    ids, labels, logits = parts()
    ids[0] = 4
    with pytest.raises(ValueError, match="1 missing, 1 more than once"):
        assemble(ids, labels, logits, samples=5)


def test_accuracies_by_hand() -> None:
    logits = torch.arange(7.0).flip(0).repeat(4, 1)  # class 0 first, class 6 last
    top1, top5 = accuracies(logits, torch.tensor([0, 1, 4, 5]))
    assert (top1.item(), top5.item()) == (25.0, 75.0)


def test_ties_and_nan_are_no_free_points() -> None:
    top1, _ = accuracies(torch.zeros(3, 3), torch.tensor([0, 1, 2]))
    assert top1.item() == pytest.approx(100 / 3)
    top1, top5 = accuracies(torch.full((2, 9), torch.nan), torch.tensor([0, 8]))
    assert (top1.item(), top5.item()) == (0.0, 0.0)


def test_scores_agree_with_topk() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 20, generator=generator)
    labels = torch.randint(0, 20, (200,), generator=generator)
    scores = score(Predictions(torch.arange(200), labels, logits), F.cross_entropy)
    hits = logits.topk(5).indices == labels[:, None]
    assert scores.top1 == pytest.approx(hits[:, :1].sum().item() / 2)
    assert scores.top5 == pytest.approx(hits.sum().item() / 2)
    assert scores.loss == pytest.approx(F.cross_entropy(logits, labels).item())
    assert scores.samples == 200


def test_pad_lengthens_the_first_axis() -> None:
    assert pad(torch.tensor([5, 6]), 3, value=-1).tolist() == [5, 6, -1]
    assert pad(torch.ones(1, 2), 2).tolist() == [[1, 1], [0, 0]]


def test_predictions_survive_the_disk(tmp_path: Path) -> None:
    predictions = assemble(*parts(), samples=5)
    save_predictions(predictions, tmp_path / "p.safetensors")
    loaded = load_predictions(tmp_path / "p.safetensors")
    assert loaded.logits.equal(predictions.logits)
    assert loaded.labels.equal(predictions.labels)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    for name in ("bad", "none"):
        with pytest.raises(UserError, match="holds no predictions"):
            load_predictions(tmp_path / f"{name}.safetensors")
