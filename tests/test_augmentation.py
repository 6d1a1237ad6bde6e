import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as T

from tinynet.augmentation import (
    augment,
    brighten,
    contrast,
    crop,
    cutout,
    draws_of,
    erase,
    resized_crop,
    saturate,
    spread,
)
from tinynet.config import Augmentation
from tinynet.normalisation import normalise, resize

OFF = Augmentation(flip="none", crop_padding=0)
EVERYTHING = Augmentation(
    crop_padding=2,
    resized_crop=0.5,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    gamma=0.3,
    cutout=0.25,
    erasing=0.5,
)
MEAN = torch.tensor([0.5, 0.4, 0.3])


def pictures(count: int = 5, size: int = 8, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, channels), generator=generator).byte()


def floats(count: int = 5) -> Tensor:
    return pictures(count) / 255


def draws_for(settings: Augmentation, count: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {draw.name: torch.rand(count, generator=generator) for draw in draws_of(settings)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("as_float", [False, True])
def test_crop_mirrors_and_shifts_with_reflected_borders(channels: int, as_float: bool) -> None:
    images = pictures(channels=channels)
    draws = {
        "flip": torch.tensor([0.2, 0.7, 0.499, 0.5, 0.0]),
        "crop_y": torch.tensor([0, 0.21, 0.5, 0.79, 0.999]),
        "crop_x": torch.tensor([0.999, 0, 0.5, 0.3, 0]),
    }
    given = images / 255 if as_float else images
    for i, cropped in enumerate(crop(given, draws, 2)):
        picture = given[i].permute(2, 0, 1)
        if draws["flip"][i] < 0.5:
            picture = T.horizontal_flip(picture)
        padded = F.pad(picture[None].float(), (2, 2, 2, 2), mode="reflect")[0]
        top, left = int(draws["crop_y"][i] * 5), int(draws["crop_x"][i] * 5)
        window = padded[:, top : top + 8, left : left + 8].permute(1, 2, 0)
        assert cropped.equal(window.to(given.dtype))


def test_the_middle_draw_crops_nothing() -> None:
    half = torch.full((5,), 0.5)
    assert crop(pictures(), {"crop_y": half, "crop_x": half}, 3).equal(pictures())


def test_without_padding_crop_only_mirrors() -> None:
    mirrored = crop(pictures(), {"flip": torch.tensor([0.0, 0.9, 0.0, 0.9, 0.9])}, 0)
    assert mirrored[0].equal(pictures()[0].flip(1))
    assert mirrored[1].equal(pictures()[1])


def test_resized_crop_is_torchvisions_on_whole_pixels() -> None:
    # Half of the sides: a quarter of the area; 4 of 8 pixels from row 2 and column 1.
    draws = {
        "area": torch.zeros(5),
        "ratio": torch.full((5,), 0.5),
        "resized_y": torch.full((5,), 0.5),
        "resized_x": torch.full((5,), 0.25),
    }
    ours = resized_crop(floats(), draws, 0.25).permute(0, 3, 1, 2)
    theirs = T.resized_crop(floats().permute(0, 3, 1, 2), 2, 1, 4, 4, [8, 8], antialias=True)
    # torchvision repeats the box's own border, we still see the picture beside it.
    assert torch.allclose(ours[:, :, 1:-1, 1:-1], theirs[:, :, 1:-1, 1:-1], atol=1e-5)


def test_a_resized_crop_of_everything_changes_nothing() -> None:
    draws = draws_for(Augmentation(resized_crop=1.0)) | {"ratio": torch.full((5,), 0.5)}
    assert torch.allclose(resized_crop(pictures(), draws, 1.0), floats(), atol=1e-5)


def test_colour_steps_are_torchvisions() -> None:
    planes = floats().permute(0, 3, 1, 2)
    for ours, theirs in (
        (brighten, T.adjust_brightness),
        (contrast, T.adjust_contrast),
        (saturate, T.adjust_saturation),
    ):
        for factor in (0.0, 0.6, 1.0, 1.7):
            expected = theirs(planes, factor).permute(0, 2, 3, 1)
            # torchvision rounds the weights of the grey to four digits.
            assert torch.allclose(ours(floats(), torch.full((5,), factor)), expected, atol=1e-3)


def test_gamma_raises_to_a_power() -> None:
    draw = torch.tensor([0, 0.25, 0.5, 0.75, 0.99])
    settings = Augmentation(flip="none", crop_padding=0, gamma=0.5)
    expected = floats() ** spread(draw, 0.5)[:, None, None, None]
    assert torch.allclose(augment(pictures(), {"gamma": draw}, settings, MEAN), expected)


def test_saturation_leaves_grey_pictures_alone() -> None:
    grey = pictures(channels=1)
    assert saturate(grey, torch.zeros(5)) is grey


def test_spread_is_symmetric_around_one() -> None:
    factors = spread(torch.tensor([0.0, 0.5, 1.0]), 0.25)
    assert torch.allclose(factors, torch.tensor([0.8, 1.0, 1.25]))


def test_cutout_fills_a_square_with_the_mean() -> None:
    draws = {"cutout_y": torch.full((5,), 0.5), "cutout_x": torch.zeros(5)}
    cut = cutout(pictures(), draws, 0.5, MEAN)
    mean = torch.tensor([128, 102, 76]).byte()  # half to even: 127.5 is 128, 76.5 is 76
    assert cut[:, 2:6, :2].equal(mean.expand(5, 4, 2, 3))
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[2:6, :2] = False
    assert cut[:, outside].equal(pictures()[:, outside])


def test_erasing_spares_the_pictures_that_are_not_drawn() -> None:
    draws = draws_for(Augmentation(erasing=0.5)) | {"erase": torch.tensor([0, 0.4, 0.5, 0.6, 1])}
    changed = (erase(pictures(), draws, 0.5, MEAN) != pictures()).flatten(1).any(1)
    assert changed.tolist() == [True, True, False, False, False]


def test_erased_areas_are_as_published() -> None:
    count = 2000
    draws = draws_for(Augmentation(erasing=1.0), count)
    # In the middle, so that nothing is cut off by the border.
    draws |= {"erase_y": torch.full((count,), 0.5), "erase_x": torch.full((count,), 0.5)}
    white = torch.ones(count, 64, 64, 1)
    areas = 1 - erase(white, draws, 1.0, torch.zeros(1)).mean((1, 2, 3))
    assert 0.015 < areas.min() < 0.03
    assert 0.3 < areas.max() < 0.36
    assert abs(areas.mean() - (0.02 + 1 / 3) / 2) < 0.02


def test_all_off_gives_the_plain_bytes() -> None:
    assert draws_of(OFF) == ()
    assert augment(pictures(), {}, OFF, MEAN).equal(pictures())


def test_the_order_of_the_steps_is_that_of_the_settings() -> None:
    order = ("brightness", "gamma", "crop", "resized_crop", "contrast", "saturation")
    first, second = (
        Augmentation(flip="none", crop_padding=0, brightness=1, gamma=1, order=(*steps, *tail))
        for steps, tail in ((order, ("cutout", "erasing")), (order[::-1], ("erasing", "cutout")))
    )
    draws = {"brightness": torch.ones(5), "gamma": torch.zeros(5)}
    brighter_first = (floats() * 2).clamp(0, 1).sqrt()
    assert torch.allclose(augment(pictures(), draws, first, MEAN), brighter_first)
    assert torch.allclose(
        augment(pictures(), draws, second, MEAN), (floats().sqrt() * 2).clamp(0, 1)
    )


def test_a_sample_s_augmentation_does_not_depend_on_its_neighbours() -> None:
    draws = draws_for(EVERYTHING)
    together = augment(pictures(), draws, EVERYTHING, MEAN)
    for i in range(5):
        own = {name: draw[i : i + 1] for name, draw in draws.items()}
        alone = augment(pictures()[i : i + 1], own, EVERYTHING, MEAN)
        assert torch.allclose(together[i], alone[0], atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_gives_mean_0_and_std_1(dtype: torch.dtype) -> None:
    images = pictures(50)
    mean, std = floats(50).mean((0, 1, 2)), floats(50).std((0, 1, 2), correction=0)
    for given in (images, images / 255):
        out = torch.empty(images.shape, dtype=dtype)
        normal = normalise(given, tuple(mean.tolist()), tuple(std.tolist()), out)
        assert normal.dtype == dtype
        assert torch.allclose(normal.float(), (floats(50) - mean) / std, rtol=0.01, atol=1e-5)


def test_resize_keeps_a_flat_picture_flat() -> None:
    flat = torch.full((1, 8, 8, 3), 0.25)
    assert torch.allclose(resize(flat, 12), torch.full((1, 12, 12, 3), 0.25))
    assert resize(flat, 8) is flat
