import pytest
import torch
from torch.nn import functional as F

from tinynet.augmentation import augment, crop, draws_of, flip, normalise, resize, saturate, spread
from tinynet.config import Augmentation

OFF = Augmentation(flip=0, crop_padding=0)


def pictures(count: int = 5, size: int = 8, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, channels), generator=generator).byte()


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_is_a_shift_with_reflected_borders(channels: int) -> None:
    images = pictures(channels=channels)
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (2, 2, 2, 2), mode="reflect")
    draws_y, draws_x = (
        torch.tensor([0, 0.21, 0.5, 0.79, 0.999]),
        torch.tensor([0.999, 0, 0.5, 0.3, 0]),
    )
    cropped = crop(images, draws_y, draws_x, 2)
    for image, top, left, expected in zip(
        cropped, (draws_y * 5).int(), (draws_x * 5).int(), padded, strict=True
    ):
        window = expected[:, top : top + 8, left : left + 8].permute(1, 2, 0)
        assert image.equal(window.byte())


def test_the_middle_draw_crops_nothing() -> None:
    half = torch.full((5,), 0.5)
    assert crop(pictures(), half, half, 3).equal(pictures())


def test_flip_mirrors_only_where_asked() -> None:
    flipped = flip(pictures(), torch.tensor([True, False, True, False, False]))
    assert flipped[0].equal(pictures()[0].flip(1))
    assert flipped[1].equal(pictures()[1])
    assert flipped[2].equal(pictures()[2].flip(1))


def test_saturation_0_is_grey_and_1_changes_nothing() -> None:
    floats = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    same = saturate(floats, torch.tensor([0.0, 1.0]))
    grey = 0.299 * floats[0, 0] + 0.587 * floats[0, 1] + 0.114 * floats[0, 2]
    for channel in range(3):
        assert torch.allclose(same[0, channel], grey)
    assert torch.allclose(same[1], floats[1])
    single = floats[:, :1]
    assert saturate(single, torch.tensor([0.0, 0.0])) is single


def test_spread_is_symmetric_around_one() -> None:
    factors = spread(torch.tensor([0.0, 0.5, 1.0]), 0.25)
    assert torch.allclose(factors, torch.tensor([0.8, 1.0, 1.25]))


def test_jitter_does_what_its_formula_says() -> None:
    images = pictures()
    floats = images.permute(0, 3, 1, 2) / 255
    draw = torch.tensor([0, 0.25, 0.5, 0.75, 0.99])
    for name, expected in (
        ("gamma", floats.pow(spread(draw, 0.5)[:, None, None, None])),
        ("brightness", (floats * spread(draw, 0.5)[:, None, None, None]).clamp(0, 1)),
    ):
        settings = Augmentation(flip=0, crop_padding=0, **{name: 0.5})  # type: ignore[arg-type]
        assert draws_of(settings) == (name,)
        assert torch.allclose(augment(images, {name: draw}, settings), expected)


def test_all_off_gives_the_plain_picture_in_channels_last() -> None:
    assert draws_of(OFF) == ()
    floats = augment(pictures(), {}, OFF)
    assert floats.dtype == torch.float32
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(floats, pictures().permute(0, 3, 1, 2) / 255)


def test_a_sample_s_augmentation_does_not_depend_on_its_neighbours() -> None:
    settings = Augmentation(flip=0.5, crop_padding=2, gamma=0.3, brightness=0.3, saturation=0.3)
    generator = torch.Generator().manual_seed(1)
    draws = {name: torch.rand(5, generator=generator) for name in draws_of(settings)}
    together = augment(pictures(), draws, settings)
    for i in range(5):
        alone = augment(
            pictures()[i : i + 1], {k: v[i : i + 1] for k, v in draws.items()}, settings
        )
        assert torch.allclose(together[i], alone[0], atol=1e-6)


def test_normalise_gives_mean_0_and_std_1() -> None:
    floats = torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mean, std = floats.mean((0, 2, 3)), floats.std((0, 2, 3), correction=0)
    normal = normalise(floats, mean, std)
    assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(normal.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_resize_keeps_a_flat_picture_flat() -> None:
    flat = torch.full((1, 3, 8, 8), 0.25)
    assert torch.allclose(resize(flat, 12), torch.full((1, 3, 12, 12), 0.25))
    assert resize(flat, 8) is flat
