import pytest
import timm
import torch
from torch import nn

from tinynet.config import Loss, Optimizer, Schedule
from tinynet.errors import UserError
from tinynet.optimization import (
    create_optimizer,
    image_size,
    l2_penalty,
    learning_rate,
    loss_function,
    set_learning_rate,
)

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.2, 3.0]])
TARGETS = torch.tensor([0, 1])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_hinge_is_torch_s_multi_margin_loss(p: int, margin: float) -> None:
    ours = loss_function(Loss(name="hinge", p=p, margin=margin))(LOGITS, TARGETS)  # type: ignore[arg-type]
    assert ours.mean().equal(nn.MultiMarginLoss(p=p, margin=margin)(LOGITS, TARGETS))


def test_hinge_by_hand() -> None:
    # Sample 0 wins by 1.5 and 3: nothing. Sample 1 is short by 1 - 0.2 and 1 + 2.8, of 3 classes.
    loss = loss_function(Loss(name="hinge"))(LOGITS, TARGETS)
    assert loss.tolist() == pytest.approx([0, (0.8 + 3.8) / 3])
    squared = loss_function(Loss(name="hinge", p=2))(LOGITS, TARGETS)
    assert squared.tolist() == pytest.approx([0, (0.8**2 + 3.8**2) / 3])


def test_cross_entropy_smooths_labels_and_works_in_float32() -> None:
    loss = loss_function(Loss(label_smoothing=0.1))(LOGITS.bfloat16(), TARGETS)
    log_p = LOGITS.bfloat16().float().log_softmax(1)
    expected = -(0.9 * log_p[[0, 1], TARGETS] + 0.1 * log_p.mean(1))
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, expected)


def test_l2_is_the_squared_norm_of_the_weights_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    nn.init.constant_(model[0].weight, 3.0)
    nn.init.constant_(model[0].bias, 100.0)
    assert l2_penalty(model).item() == 36.0


def rates(name: str, updates: int = 100, **changes: float) -> list[float]:
    schedule = Schedule(name=name, **changes)  # type: ignore[arg-type]
    return [learning_rate(update, updates, 10, 2.0, schedule) for update in range(updates)]


def test_warm_up_rises_in_equal_steps() -> None:
    assert rates("constant", warmup_epochs=1)[:12] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.0, 2.0]
    )


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_decays_go_from_the_peak_to_final(name: str) -> None:
    curve = rates(name, warmup_epochs=1, final=0.1)
    assert curve[10] == pytest.approx(2.0)
    assert curve[55] == pytest.approx((2.0 + 0.2) / 2)
    assert curve[-1] == pytest.approx(0.2, abs=0.03)
    assert curve[10:] == sorted(curve[10:], reverse=True)


def test_steps_drop_by_the_factor() -> None:
    curve = rates("step", warmup_epochs=0, step_epochs=4, step_factor=0.5)
    assert [curve[0], curve[39], curve[40], curve[80]] == [2.0, 2.0, 1.0, 0.5]


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "lamb"])
def test_optimizers_of_timm_move_the_weights(name: str) -> None:
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    optimizer = create_optimizer(model, Optimizer(name=name, lr=0.1))
    set_learning_rate(optimizer, 0.05)
    assert {group["lr"] for group in optimizer.param_groups} == {0.05}
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    assert not model.weight.equal(before)


def test_weight_decay_leaves_out_biases() -> None:
    groups = create_optimizer(nn.Linear(3, 2), Optimizer(weight_decay=0.5)).param_groups
    decays = {weight.ndim: group["weight_decay"] for group in groups for weight in group["params"]}
    assert decays == {1: 0.0, 2: 0.5}


def test_an_unknown_optimizer_gets_its_nearest_names() -> None:
    with pytest.raises(UserError, match=r"adamm is not known .* adam"):
        create_optimizer(nn.Linear(3, 2), Optimizer(name="adamm"))


def test_pictures_have_the_size_of_the_last_epoch_reached() -> None:
    schedule = Schedule(sizes=((0.5, 40), (1.5, 48), (2, 64)))
    sizes = [image_size(update, 10, 72, schedule) for update in range(30)]
    assert sizes == [72] * 5 + [40] * 10 + [48] * 5 + [64] * 10
    assert image_size(0, 10, 64, Schedule()) == 64


def test_layers_further_from_the_output_learn_more_slowly() -> None:
    model = timm.create_model("alexnet", num_classes=10)
    optimizer = create_optimizer(model, Optimizer(lr=0.4, layer_decay=0.5))
    set_learning_rate(optimizer, 0.2)
    rates = {id(w): group["lr"] for group in optimizer.param_groups for w in group["params"]}
    layers = [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))]
    found = [rates[id(model.get_submodule(layer).weight)] for layer in layers]
    assert found == pytest.approx([0.2 * 0.5 ** (7 - depth) for depth in range(8)])
    for layer in layers:
        module = model.get_submodule(layer)
        assert rates[id(module.weight)] == rates[id(module.bias)]
