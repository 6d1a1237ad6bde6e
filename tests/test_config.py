from dataclasses import asdict
from pathlib import Path

import pytest

from tinynet.config import Config
from tinynet.errors import UserError
from tinynet.flags import load_config, read_config, to_yaml

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_defaults_give_way_to_the_file_and_the_file_to_flags(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: 3\noptimizer: {lr: 1e-3, name: adam}\nseed: 7\n")
    for arguments in (
        ["--config", str(path), "--optimizer.lr", "2e-2", "--seed", "9"],
        ["--optimizer.lr", "2e-2", "--seed", "9", f"--config={path}"],
    ):
        config = load_config(arguments)
        assert config.epochs == 3
        assert config.optimizer.name == "adam"
        assert config.optimizer.lr == 0.02
        assert config.seed == 9
        assert config.optimizer.momentum == Config().optimizer.momentum
        assert config.run_name == "run"


def test_an_evaluation_has_a_run_of_its_own() -> None:
    assert load_config(["--epochs", "0", "--model.name", "svm"]).run_name == "svm-eval"


def test_exponents_in_yaml_are_numbers(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "optimizer: {lr: 1e-3}")).optimizer.lr == 0.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer: {learning: 1}", r"unknown key optimizer\.learning"),
        ("optimizer: {lrr: 1}", r"unknown key optimizer\.lrr, did you mean optimizer\.lr\?"),
        ("optimiser: {lr: 1}", r"unknown key optimiser, did you mean optimizer\?"),
        ("lr: 1", r"unknown key lr, did you mean optimizer\.lr\?"),
        ("epochs: many", r"epochs = 'many' is wrong"),
        ("loss: {p: 3}", r"loss\.p = 3 is wrong: Input should be 1 or 2"),
        ("epochs: [", "is not YAML"),
        ("- 1", "wrong"),
        ("a: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_a_bad_file_names_the_key_and_the_nearest_right_one(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(UserError, match=r"--config nowhere\.yaml cannot be read"):
        load_config(["--config", "nowhere.yaml"])


def test_an_unknown_flag_ends_with_status_2_and_the_nearest_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        load_config(["--optimizer.lrr", "1"])
    assert caught.value.code == 2
    assert "--optimizer.lr" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        load_config(["--optimizer.lrr", "1"], say_errors=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "-1"], "--epochs must be"),
        (["--optimizer.lr", "0"], "--optimizer.lr must be"),
        (["--augmentation.cutout", "2"], "--augmentation.cutout must be"),
        (["--augmentation.order", "crop"], "--augmentation.order must name each step once"),
        (["--cpu", "--compute.mixed_precision", "fp16"], "needs a GPU"),
    ],
)
def test_values_that_make_no_sense_are_refused(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(flags)


def test_the_resolved_configuration_is_a_configuration(tmp_path: Path) -> None:
    config = load_config(["--optimizer.lr", "1e-4", "--model.name", "svm", "--run_name", "x"])
    assert read_config(written(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_says_what_it_is_for_and_holds_only_differences(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    config = load_config(["--config", str(path)])
    assert config.run_name == path.stem
    assert len(text.splitlines()) <= 20


def test_there_are_not_too_many_settings() -> None:
    leaves = [
        key
        for value in asdict(Config()).values()
        for key in (value if isinstance(value, dict) else [value])
    ]
    assert len(leaves) <= 60
