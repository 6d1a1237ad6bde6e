import math
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tinynet.config import Model
from tinynet.errors import UserError
from tinynet.models import create_model


def test_alexnet_has_torchvision_s_weights_by_name_and_shape() -> None:
    ours = {
        name: weight.shape for name, weight in timm.create_model("alexnet").state_dict().items()
    }
    theirs = torchvision.models.alexnet().state_dict()
    assert ours == {name: weight.shape for name, weight in theirs.items()}


def test_alexnet_computes_what_torchvision_computes() -> None:
    theirs = torchvision.models.alexnet().eval()
    ours = timm.create_model("alexnet.tv_in1k").eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("name", ["svm", "alexnet64"])
@pytest.mark.parametrize(("channels", "size"), [(3, 64), (1, 28)])
def test_our_models_take_colour_and_digits(name: str, channels: int, size: int) -> None:
    model, missing = create_model(Model(name=name), channels, size, 10)
    assert model.eval()(torch.zeros(2, channels, size, size)).shape == (2, 10)
    assert missing == []


def test_alexnet64_has_alexnet_s_shape() -> None:
    model, _ = create_model(Model(name="alexnet64"), 3, 64, 200)
    assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == 5
    assert sum(isinstance(layer, nn.Linear) for layer in model.modules()) == 3
    assert 15e6 < sum(weight.numel() for weight in model.parameters()) < 16e6


def test_svm_is_one_linear_layer_of_the_pixels() -> None:
    model, _ = create_model(Model(name="svm"), 3, 64, 200)
    assert {name: math.prod(w.shape) for name, w in model.named_parameters()} == {
        "head.weight": 3 * 64 * 64 * 200,
        "head.bias": 200,
    }


@pytest.mark.parametrize("name", ["svm", "alexnet64", "alexnet"])
def test_our_models_have_timm_s_interface(name: str) -> None:
    model, _ = create_model(Model(name=name), 3, 64, 10)
    images = torch.zeros(2, 3, 64, 64)
    model.eval()
    features = model.forward_features(images)  # type: ignore[operator]
    assert torch.equal(model.forward_head(features), model(images))  # type: ignore[operator]
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)  # type: ignore[operator]
    model.reset_classifier(7)  # type: ignore[operator]
    assert model(images).shape == (2, 7)
    assert model.get_classifier().out_features == 7  # type: ignore[operator]


def test_vgg_comes_from_timm() -> None:
    model, _ = create_model(Model(name="vgg11_bn"), 3, 64, 5)
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_an_unknown_model_gets_its_nearest_names() -> None:
    with pytest.raises(UserError, match=r"alexnt64 is not known to timm: did you mean alexnet64"):
        create_model(Model(name="alexnt64"), 3, 64, 10)


@pytest.fixture(scope="module")
def conv_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The convolutions of some alexnet, as a safetensors file."""
    torch.manual_seed(3)
    weights = timm.create_model("alexnet").state_dict()
    path = tmp_path_factory.mktemp("weights") / "features.safetensors"
    save_file({name: w for name, w in weights.items() if name.startswith("features")}, path)
    return path


def test_a_partial_file_is_refused_unless_asked_for(conv_weights: Path) -> None:
    settings = {"name": "alexnet.tv_in1k", "weights": str(conv_weights)}
    with pytest.raises(
        UserError, match=r"lacks the weights classifier\.1\.weight.*--model.partial"
    ):
        create_model(Model(**settings), 3, 64, 10)  # type: ignore[arg-type]
    model, missing = create_model(Model(**settings, partial=True), 3, 64, 10)  # type: ignore[arg-type]
    assert missing == [f"classifier.{i}.{kind}" for i in (1, 4, 6) for kind in ("weight", "bias")]
    torch.manual_seed(3)
    expected = timm.create_model("alexnet").state_dict()["features.3.weight"]
    assert model.state_dict()["features.3.weight"].equal(expected)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match="could not be loaded from"):
        create_model(Model(name="alexnet.tv_in1k", weights=str(path)), 3, 64, 10)
    with pytest.raises(UserError, match="does not exist"):
        create_model(Model(name="alexnet.tv_in1k", weights=str(path) + "x"), 3, 64, 10)


def test_weights_out_of_reach_name_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth and pass --model.weights FILE"):
        create_model(Model(name="alexnet.tv_in1k", pretrained=True), 3, 64, 10)


def test_a_setting_that_the_model_does_not_take_is_said() -> None:
    with pytest.raises(UserError, match="svm does not take these settings"):
        create_model(Model(name="svm", dropout=0.5), 3, 64, 10)
