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
from tinynet.models.create import shrink_stem
from tinynet.models.linear import Linear


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
    assert 5.5e6 < sum(weight.numel() for weight in model.parameters()) < 6e6


@pytest.mark.parametrize("name", ["svm", "svm_symmetric"])
def test_svm_is_one_affine_map_of_the_pixels(name: str) -> None:
    model, _ = create_model(Model(name=name), 3, 16, 5)
    images = torch.randn(900, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    model.fit_inputs(images.split(100))  # type: ignore[operator]
    nn.init.normal_(model.head.weight)  # type: ignore[union-attr, arg-type]
    a, b = images[:8], images[8:16]
    mixed = model(0.3 * a + 0.7 * b)
    assert torch.allclose(mixed, 0.3 * model(a) + 0.7 * model(b), atol=1e-4)
    assert {weight for weight, _ in model.named_parameters()} == {"head.weight", "head.bias"}
    assert torch.allclose(model(a), model(a.flip(3)), atol=1e-4) == (name == "svm_symmetric")


def test_svm_sees_uncorrelated_components_of_the_training_pictures() -> None:
    model, _ = create_model(Model(name="svm"), 3, 64, 200)
    assert isinstance(model, Linear)
    few, _ = create_model(Model(name="svm"), 1, 4, 200)
    assert isinstance(few, Linear)
    mixing = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(4000, 16, generator=torch.Generator().manual_seed(2))
    images = (noise @ mixing + 3).unflatten(1, (1, 4, 4))
    few.fit_inputs(images.split(1000))
    seen = few.forward_features(images)
    covariance = seen.T @ seen / len(seen)
    assert torch.allclose(covariance, torch.diag(covariance.diag()), atol=1e-3)
    assert covariance.diag().mean() == pytest.approx(1, abs=1e-3)
    assert seen.mean(0).abs().max() < 1e-3
    assert (model.num_features, few.num_features) == (600, 16)


def test_a_small_stem_keeps_the_size_and_what_even_areas_give() -> None:
    original, _ = create_model(Model(name="resnet18"), 3, 64, 10)
    small, _ = create_model(Model(name="resnet18", stem="small"), 3, 64, 10)
    assert small.conv1.weight.shape == (64, 3, 3, 3)  # type: ignore[union-attr]
    images = torch.zeros(1, 3, 64, 64)
    assert original.forward_features(images).shape[2:] == (2, 2)  # type: ignore[operator]
    assert small.forward_features(images).shape[2:] == (8, 8)  # type: ignore[operator]
    seven, three = nn.Conv2d(3, 64, 7), nn.Sequential(nn.Conv2d(3, 64, 7), nn.MaxPool2d(2))
    three[0].load_state_dict(seven.state_dict())
    three.pretrained_cfg = {"first_conv": "0"}  # type: ignore[assignment]
    shrink_stem(three, "three")
    even = torch.ones(1, 3, 7, 7) * torch.tensor([1.0, 2.0, 3.0])[None, :, None, None]
    assert torch.allclose(seven(even)[0, :, 0, 0], three(even)[0, :, 3, 3], atol=1e-5)


def test_a_model_without_a_known_first_convolution_keeps_its_stem() -> None:
    with pytest.raises(UserError, match=r"--model.stem small: svm has no single first convolution"):
        create_model(Model(name="svm", stem="small"), 3, 64, 10)


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
