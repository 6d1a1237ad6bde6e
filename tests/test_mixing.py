import pytest
import torch

from tinynet.config import Augmentation
from tinynet.mixing import beta_quantile, mix, mixing_draws, partners_of

FLAT = torch.arange(4.0)[:, None, None, None].expand(4, 16, 16, 3)
"""Picture i is all i."""
PARTNERS = torch.tensor([1, 0, 3, 2])
DRAWS = {
    "mix": torch.tensor([0.1, 0.9, 0.1, 0.9]),
    "mixup": torch.tensor([0.25, 0.5, 0.75, 1.0]),
    "cutmix": torch.full((4,), 0.75),
    "cutmix_y": torch.full((4,), 0.5),
    "cutmix_x": torch.tensor([0.5, 0.5, 0.0, 0.0]),
}


def test_partners_are_neighbours_in_the_global_batch() -> None:
    order = torch.tensor([4, 0, 3, 5, 1, 2])  # the positions of the rows
    partners = partners_of(order)
    assert order[partners].equal(order ^ 1)


def test_mixup_blends_by_the_share() -> None:
    settings = Augmentation(mixup=1.0)  # Beta(1, 1): the draw itself
    mixed, share = mix(FLAT, DRAWS, PARTNERS, settings)
    assert torch.allclose(share, DRAWS["mixup"], atol=1e-4)
    expected = share * torch.arange(4.0) + (1 - share) * PARTNERS
    assert torch.allclose(mixed[:, 3, 5, 1], expected, atol=1e-4)


def test_cutmix_pastes_a_box_and_says_what_is_left() -> None:
    mixed, share = mix(FLAT, DRAWS, PARTNERS, Augmentation(cutmix=1.0))
    # A quarter of the area: half of the side, 8 of 16 pixels; at the border half of it is cut off.
    assert torch.allclose(share, torch.tensor([0.75, 0.75, 0.875, 0.875]))
    own = (mixed == FLAT).float().mean((1, 2, 3))
    assert torch.allclose(own, share)
    assert mixed[0, 8, 8, 0] == 1
    assert mixed[0, 0, 0, 0] == 0


def test_each_sample_draws_which_of_both() -> None:
    mixed, share = mix(FLAT, DRAWS, PARTNERS, Augmentation(mixup=1.0, cutmix=1.0))
    assert torch.allclose(share, torch.tensor([0.25, 0.75, 0.75, 0.875]), atol=1e-4)
    assert torch.allclose(mixed[0], torch.full((16, 16, 3), 0.75), atol=1e-4)
    assert set(mixed[1].unique().tolist()) == {0.0, 1.0}


def test_nothing_is_drawn_when_nothing_is_mixed() -> None:
    assert mixing_draws(Augmentation()) == ()
    names = [draw.name for draw in mixing_draws(Augmentation(mixup=0.2))]
    assert names == ["mixup", "mix"]


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 2.0])
def test_the_table_is_the_beta_distribution(alpha: float) -> None:
    draws = (torch.arange(100_000) + 0.5) / 100_000
    values = beta_quantile(draws, alpha)
    assert values.min() >= 0
    assert values.max() <= 1
    assert bool((values.diff() >= 0).all())
    reference = torch.distributions.Beta(alpha, alpha)
    assert abs(values.mean() - 0.5) < 1e-4
    assert abs(values.var() - reference.variance) < 1e-3 * reference.variance
    if alpha == 0.5:  # the arcsine distribution
        assert torch.allclose(values, torch.sin(torch.pi / 2 * draws) ** 2, atol=1e-4)
