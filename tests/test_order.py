import pytest
import torch

from tinynet.errors import UserError
from tinynet.order import Draw, Plan, evaluation_range, generator, hold_out, permutation


def plan(**changes: object) -> Plan:
    settings: dict[str, object] = {"seed": 1, "samples": 103, "epochs": 2, "global_batch_size": 24}
    return Plan(**{**settings, **changes})  # type: ignore[arg-type]


def shown(update: int, world_size: int, accumulation: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and flip draws of a whole update, put together from all ranks and micro-batches."""
    parts = [
        plan(world_size=world_size, rank=rank, accumulation=accumulation).share(
            update, micro_batch, [Draw("flip")]
        )
        for micro_batch in range(accumulation)
        for rank in range(world_size)
    ]
    return (
        torch.cat([part.sample_ids for part in parts]),
        torch.cat([part.draws["flip"] for part in parts]),
    )


@pytest.mark.parametrize(("world_size", "accumulation"), [(2, 1), (4, 1), (1, 4), (3, 2), (8, 3)])
@pytest.mark.parametrize("update", [0, 3, 4, 7])
def test_what_is_shown_does_not_depend_on_ranks(
    update: int, world_size: int, accumulation: int
) -> None:
    alone_ids, alone_draws = shown(update, 1, 1)
    ids, draws = shown(update, world_size, accumulation)
    assert ids.equal(alone_ids)
    assert draws.equal(alone_draws)


def test_no_sample_is_shown_twice_in_an_epoch_and_epochs_differ() -> None:
    a, b = (
        torch.cat([plan().share(update, 0).sample_ids for update in updates])
        for updates in (range(4), range(4, 8))
    )
    assert len(a.unique()) == len(a) == 96
    assert len(b.unique()) == len(b) == 96
    assert not a.equal(b)


def test_every_epoch_is_a_permutation_of_the_split() -> None:
    assert permutation(1, 5, 103).sort().values.equal(torch.arange(103))
    assert not permutation(1, 5, 103).equal(permutation(2, 5, 103))


def test_draws_have_streams_of_their_own() -> None:
    both = plan().share(3, 0, [Draw("flip"), Draw("gamma")]).draws
    assert both["flip"].equal(plan().share(3, 0, [Draw("flip")]).draws["flip"])
    assert not both["flip"].equal(both["gamma"])
    assert not both["flip"].equal(plan().share(2, 0, [Draw("flip")]).draws["flip"])
    assert 0 <= both["flip"].min() <= both["flip"].max() < 1


def test_shares_go_on_where_they_are_asked_to() -> None:
    everything = [share.sample_ids for share in plan(accumulation=2).shares(0)]
    rest = [share.sample_ids for share in plan(accumulation=2).shares(5)]
    assert len(everything) == 16
    assert [ids.tolist() for ids in rest] == [ids.tolist() for ids in everything[10:]]


def test_generators_depend_on_every_word() -> None:
    streams = {generator(*words).initial_seed() for words in [(1, 2), (2, 1), (12,), (1, "2")]}
    assert len(streams) == 4


@pytest.mark.parametrize(("epochs", "updates"), [(0, 0), (2, 8), (0.5, 2), (15, 60)])
def test_durations_are_converted_once(epochs: float, updates: int) -> None:
    assert plan(epochs=epochs).updates == updates


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match=r"24 cannot be shared by 5 ranks .* such as 25"):
        plan(world_size=5)
    with pytest.raises(UserError, match="more than the 103 training samples"):
        plan(global_batch_size=104)


@pytest.mark.parametrize(("samples", "world_size"), [(37, 2), (37, 4), (3, 4), (10_000, 3)])
def test_evaluation_takes_every_sample_once(samples: int, world_size: int) -> None:
    ids = [i for rank in range(world_size) for i in evaluation_range(samples, world_size, rank)]
    assert ids == list(range(samples))
    sizes = [len(evaluation_range(samples, world_size, rank)) for rank in range(world_size)]
    assert max(sizes) <= -(-samples // world_size)


def test_alternating_draws_go_half_way_round_every_epoch() -> None:
    wanted = [Draw("flip", alternating=True)]
    by_epoch: list[dict[int, float]] = []
    for epoch in range(3):
        seen: dict[int, float] = {}
        for batch in range(plan().updates_per_epoch):
            share = plan().share(epoch * plan().updates_per_epoch + batch, 0, wanted)
            ids, draws = share.sample_ids.tolist(), share.draws["flip"].tolist()
            seen.update(zip(ids, draws, strict=True))
        by_epoch.append(seen)
    for sample in by_epoch[0].keys() & by_epoch[1].keys():
        assert (by_epoch[0][sample] < 0.5) != (by_epoch[1][sample] < 0.5)
    for sample in by_epoch[0].keys() & by_epoch[2].keys():
        assert by_epoch[0][sample] == by_epoch[2][sample]
    assert 0.3 < sum(draw < 0.5 for draw in by_epoch[0].values()) / len(by_epoch[0]) < 0.7


def test_a_tenth_of_every_class_is_held_out_and_always_the_same() -> None:
    labels = torch.arange(400) % 4
    labels[:40] = 0  # 130 of class 0, 90 of the others
    kept, held = hold_out(labels)
    assert torch.cat([kept, held]).sort().values.equal(torch.arange(400))
    assert labels[held].bincount().tolist() == [13, 9, 9, 9]
    assert kept.equal(kept.sort().values)
    assert held.equal(held.sort().values)
    torch.manual_seed(5)
    assert held.equal(hold_out(labels)[1])


def test_classes_of_less_than_ten_are_not_held_out() -> None:
    assert len(hold_out(torch.arange(27) % 3)[1]) == 0
