"""The compiled loops do what torch's operations do."""

import pytest
import torch
from torch import Tensor

from tinynet import native
from tinynet.augmentation import augment, draws_of
from tinynet.config import Augmentation
from tinynet.normalisation import crop_and_normalise, normalise

needs_loops = pytest.mark.skipif(
    not native.available, reason="tinynet was installed without a C compiler"
)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def pictures(count: int, size: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, channels), generator=generator).byte()


@needs_loops
@pytest.mark.parametrize("size", [3, 16, 64])
def test_gather_is_index_select(size: int) -> None:
    stored = torch.arange(40 * (size * size * 3 + 100)).byte().view(40, -1)
    rows = stored.as_strided((40, size, size, 3), (stored.shape[1], size * 3, 3, 1), 50)
    ids = torch.tensor([0, 3, 3, 17, 39])
    out = torch.zeros(5, size, size, 3, dtype=torch.uint8)
    native.gather(rows, ids, out)
    assert out.equal(rows.index_select(0, ids))
    native.gather(rows, ids[:0], out[:0])


@needs_loops
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(crop_padding=5),
        Augmentation(flip="none", crop_padding=11),
        Augmentation(crop_padding=0),
        Augmentation(flip="none", crop_padding=0),
    ],
)
def test_crop_and_normalise_are_the_two_steps(
    settings: Augmentation, channels: int, dtype: torch.dtype
) -> None:
    images = pictures(200, 12, channels)
    generator = torch.Generator().manual_seed(1)
    draws = {draw.name: torch.rand(200, generator=generator) for draw in draws_of(settings)}
    mean, std = MEAN[:channels], STD[:channels]
    ours, expected = (torch.empty(images.shape, dtype=dtype) for _ in range(2))
    assert crop_and_normalise(images, draws, settings, (mean, std), ours)
    normalise(augment(images, draws, settings, torch.zeros(channels)), mean, std, expected)
    # One rounding of bfloat16 may fall the other way after a last bit of float32.
    tolerance = 1e-5 if dtype == torch.float32 else 0.008
    assert torch.allclose(ours.float(), expected.float(), rtol=tolerance, atol=1e-5)


def test_other_steps_floats_and_missing_loops_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, view = pictures(4, 8, 3), (MEAN, STD)
    out = torch.empty(images.shape)
    off = Augmentation(flip="none", crop_padding=0)
    assert crop_and_normalise(images, {}, off, view, out) == native.available
    gamma = Augmentation(flip="none", crop_padding=0, gamma=0.5)
    assert not crop_and_normalise(images, {"gamma": torch.rand(4)}, gamma, view, out)
    monkeypatch.setattr(native, "available", False)
    assert not crop_and_normalise(images, {}, off, view, out)
