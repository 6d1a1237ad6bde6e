import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tinynet import native
from tinynet.augmentation import to_float
from tinynet.batches import Batch, View, evaluation_batches, training_batches
from tinynet.config import Augmentation
from tinynet.mixing import partners_of
from tinynet.order import Plan
from tinynet.shards import Split

VIEW = View(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), image_size=16, device=torch.device("cpu"))


@pytest.fixture
def split(shards: Path) -> Split:
    return Split(shards / "train")


def plan(rank: int = 0, world_size: int = 1, accumulation: int = 1) -> Plan:
    return Plan(
        seed=1,
        samples=120,
        epochs=2,
        global_batch_size=24,
        rank=rank,
        world_size=world_size,
        accumulation=accumulation,
    )


def kept(batches: Iterator[Batch]) -> list[Batch]:
    """All batches at once; their memory is used again, so it is copied."""
    return [replace(batch, images=batch.images.clone()) for batch in batches]


def normal(images: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(VIEW.mean), torch.tensor(VIEW.std)
    return ((to_float(images) - mean) / std).permute(0, 3, 1, 2)


def test_batches_hold_the_plan_s_samples_normalised(split: Split) -> None:
    off = Augmentation(flip="none", crop_padding=0)
    batches = kept(training_batches(split, plan(), off, VIEW))
    assert len(batches) == 10
    for update, batch in enumerate(batches):
        assert batch.sample_ids.equal(plan().share(update, 0).sample_ids.sort().values)
        assert batch.targets.equal(split.labels[batch.sample_ids])
        assert torch.allclose(batch.images, normal(split.gather(batch.sample_ids)), atol=1e-6)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_ranks_and_accumulation_change_nothing_of_what_is_shown(split: Split) -> None:
    settings = Augmentation(crop_padding=2, gamma=0.2, brightness=0.2, saturation=0.2)
    whole = next(training_batches(split, plan(), settings, VIEW))
    alone = dict(zip(whole.sample_ids.tolist(), whole.images, strict=True))
    for world_size, accumulation in [(2, 1), (3, 1), (2, 2)]:
        seen: list[int] = []
        for rank in range(world_size):
            batches = training_batches(split, plan(rank, world_size, accumulation), settings, VIEW)
            for _, batch in zip(range(accumulation), batches, strict=False):
                seen += batch.sample_ids.tolist()
                for sample, image in zip(batch.sample_ids.tolist(), batch.images, strict=True):
                    assert torch.allclose(image, alone[sample], atol=1e-6)
        assert sorted(seen) == sorted(alone)


def test_training_goes_on_in_the_middle(split: Split) -> None:
    settings = Augmentation()
    everything = kept(training_batches(split, plan(), settings, VIEW))
    rest = kept(training_batches(split, plan(), settings, VIEW, first_update=7))
    assert len(rest) == 3
    for old, new in zip(everything[7:], rest, strict=True):
        assert old.images.equal(new.images)


def test_evaluation_shows_every_sample_in_order(split: Split) -> None:
    batches = kept(evaluation_batches(split, range(30, 100), 32, VIEW))
    assert [len(batch.sample_ids) for batch in batches] == [32, 32, 6]
    assert torch.cat([batch.sample_ids for batch in batches]).equal(torch.arange(30, 100))
    assert torch.allclose(batches[0].images, normal(split.gather(torch.arange(30, 62))), atol=1e-6)
    assert list(evaluation_batches(split, range(5, 5), 32, VIEW)) == []


def test_pictures_are_resized_for_the_model(split: Split) -> None:
    view = View(mean=VIEW.mean, std=VIEW.std, image_size=24, device=VIEW.device)
    assert next(evaluation_batches(split, range(4), 4, view)).images.shape == (4, 3, 24, 24)


def test_an_abandoned_iterator_leaves_no_thread(split: Split) -> None:
    batches = training_batches(split, plan(), Augmentation(), VIEW)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_in_the_thread_reaches_the_loop(split: Split) -> None:
    with pytest.raises(IndexError):
        list(evaluation_batches(split, range(100, 140), 32, VIEW))


def test_memory_is_used_again_but_never_while_a_batch_is_in_use(split: Split) -> None:
    addresses = []
    for batch in training_batches(split, plan(), Augmentation(), VIEW):
        images = batch.images.clone()
        time.sleep(0.01)  # the thread prepares the next one
        assert batch.images.equal(images)
        addresses.append(batch.images.data_ptr())
    assert len(set(addresses)) == 2
    assert len(addresses) == 10


def test_pictures_come_in_bfloat16_if_the_model_computes_in_it(split: Split) -> None:
    half = next(evaluation_batches(split, range(4), 4, replace(VIEW, dtype=torch.bfloat16))).images
    whole = next(evaluation_batches(split, range(4), 4, VIEW)).images
    assert half.dtype == torch.bfloat16
    assert half.is_contiguous(memory_format=torch.channels_last)
    assert half.equal(whole.bfloat16())


def test_pixels_on_the_device_give_the_same_batches(shards: Path, split: Split) -> None:
    resident = Split(shards / "train")
    resident.reside(torch.device("cpu"))
    pairs = zip(
        training_batches(split, plan(), Augmentation(), VIEW),
        training_batches(resident, plan(), Augmentation(), VIEW),
        strict=True,
    )
    for mapped, moved in pairs:
        assert moved.images.equal(mapped.images)
        assert moved.targets.equal(mapped.targets)


def test_mixed_pictures_come_with_both_labels_on_any_number_of_ranks(split: Split) -> None:
    settings = Augmentation(mixup=0.4, cutmix=1.0)
    off = Augmentation(mixup=0, cutmix=0)
    whole = next(training_batches(split, plan(), settings, VIEW))
    plain = next(training_batches(split, plan(), off, VIEW))
    assert whole.mixed is not None
    assert plain.mixed is None
    assert bool((whole.mixed.share < 1).any())
    order = plan().share(0, 0).sample_ids.sort().indices
    partner = {int(i): int(j) for i, j in zip(order, partners_of(order), strict=True)}
    for row, position in enumerate(order.tolist()):
        assert whole.mixed.targets[row] == whole.targets[partner[position]]
    for rank in (0, 1):
        part = next(training_batches(split, plan(rank, 2), settings, VIEW))
        assert part.mixed is not None
        for row, sample in enumerate(part.sample_ids):
            same = int((whole.sample_ids == sample).nonzero())
            assert torch.allclose(part.images[row], whole.images[same], atol=1e-6)
            assert part.mixed.targets[row] == whole.mixed.targets[same]
            assert part.mixed.share[row] == whole.mixed.share[same]


def test_the_size_of_the_pictures_may_change_with_the_updates(split: Split) -> None:
    batches = training_batches(
        split, plan(accumulation=2), Augmentation(), VIEW, 3, lambda update: 8 if update < 5 else 16
    )
    assert [batch.images.shape[2] for batch in batches] == [8] * 4 + [16] * 10


def test_without_the_compiled_loops_torch_shows_the_same(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = kept(training_batches(split, plan(), Augmentation(), VIEW))
    monkeypatch.setattr(native, "available", False)
    for ours, theirs in zip(
        compiled, training_batches(split, plan(), Augmentation(), VIEW), strict=True
    ):
        assert torch.allclose(ours.images, theirs.images, atol=1e-5)
        assert ours.sample_ids.equal(theirs.sample_ids)
