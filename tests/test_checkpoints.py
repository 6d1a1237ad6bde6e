import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tinynet import checkpoints
from tinynet.checkpoints import State
from tinynet.config import Optimizer
from tinynet.errors import UserError
from tinynet.files import previous
from tinynet.optimization import create_optimizer


def state(**changes: object) -> State:
    values: dict[str, object] = {
        "update": 7,
        "best": {"update": 5, "top1": 12.5},
        "seconds": 3.5,
        "class_ids": ["a", "b"],
        "identity": {"seed": 1},
        "world_size": 1,
        "threads": 2,
        "scaler": {},
        "wandb_id": "abcd",
    }
    return State(**{**values, **changes})  # type: ignore[arg-type]


def trained(name: str = "sgd", updates: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = create_optimizer(model, Optimizer(name=name, lr=0.01))
    train(model, optimizer, updates)
    return model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, updates: int) -> None:
    for update in range(updates):
        images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(update))
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    model, optimizer = trained(name)
    checkpoints.save(tmp_path / "last", model, optimizer, state())
    train(model, optimizer, 4)
    other, its_optimizer = trained(name, updates=1)
    assert checkpoints.load(tmp_path / "last", other, its_optimizer) == state()
    train(other, its_optimizer, 4)
    for key, tensor in model.state_dict().items():
        assert tensor.equal(other.state_dict()[key]), key


def test_a_new_checkpoint_takes_the_place_of_the_old(tmp_path: Path) -> None:
    model, optimizer = trained()
    for update in (1, 2):
        checkpoints.save(tmp_path / "last", model, optimizer, state(update=update))
    assert checkpoints.read_state(tmp_path / "last").update == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_kill_while_replacing_loses_nothing(tmp_path: Path) -> None:
    model, optimizer = trained()
    folder = tmp_path / "last"
    checkpoints.save(folder, model, optimizer, state(update=1))
    folder.rename(previous(folder))  # killed between the two renames
    found = checkpoints.find(folder)
    assert found is not None
    assert checkpoints.read_state(found).update == 1
    checkpoints.save(folder, model, optimizer, state(update=2))
    assert checkpoints.find(folder) == folder


def test_a_half_written_checkpoint_is_not_found(tmp_path: Path) -> None:
    aside = tmp_path / ".last.partial"
    aside.mkdir()
    (aside / "model.safetensors").write_bytes(b"half")
    assert checkpoints.find(tmp_path / "last") is None


def test_damage_is_found(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoints.save(tmp_path / "last", model, optimizer, state())
    path = tmp_path / "last" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        checkpoints.load(tmp_path / "last", model, optimizer)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "last", *trained(), state())
    names = sorted(path.name for path in (tmp_path / "last").iterdir())
    assert names == ["model.safetensors", "optimizer.safetensors", "state.json"]
    document = json.loads((tmp_path / "last/state.json").read_text())
    assert document["sha256"].keys() == {"model.safetensors", "optimizer.safetensors"}


def test_weights_load_from_a_run_a_checkpoint_or_a_file(tmp_path: Path) -> None:
    model, optimizer = trained()
    folder = tmp_path / "run" / "checkpoints" / "best"
    checkpoints.save(folder, model, optimizer, state())
    for where in (tmp_path / "run", folder, folder / "model.safetensors"):
        fresh, _ = trained(updates=0)
        checkpoints.load_weights(where, fresh, ["a", "b"])
        assert all(a.equal(b) for a, b in zip(fresh.parameters(), model.parameters(), strict=True))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, optimizer = trained()
    checkpoints.save(tmp_path / "best", model, optimizer, state())
    with pytest.raises(UserError, match=r"trained for 2 classes \(a, b, …\), the data has 3"):
        checkpoints.load_weights(tmp_path / "best", model, ["a", "b", "c"])
    with pytest.raises(UserError, match="weights of another model"):
        checkpoints.load_weights(tmp_path / "best", nn.Linear(2, 2), ["a", "b"])
    with pytest.raises(UserError, match="no checkpoint at"):
        checkpoints.load_weights(tmp_path / "nowhere", model, ["a", "b"])
