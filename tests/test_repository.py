"""The promises of the documents: commands run, constraints fit, accelerate's configs load."""

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tinynet.flags import load_config
from tinynet.sources import SOURCES

README = (ROOT / "README.md").read_text()


def commands(text: str) -> list[list[str]]:
    """All shell commands of the code blocks, continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


TRAINING = [words for words in commands(README) if "launch/train.py" in words]
PACKING = [words for words in commands(README) if "launch/pack.py" in words]


def test_the_first_commands_of_the_readme_are_those_of_the_makefile() -> None:
    assert commands(README)[:2] == [["make", "train"], ["make", "test"]]
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^train:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("words", TRAINING, ids=" ".join)
def test_the_readme_s_training_commands_are_valid(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    at = words.index("launch/train.py")
    load_config(words[at + 1 :])
    if "--config_file" in words[:at]:
        assert Path(words[words.index("--config_file") + 1]).is_file()


@pytest.mark.parametrize("words", PACKING, ids=" ".join)
def test_the_readme_s_packing_commands_are_valid(words: list[str]) -> None:
    if "--source" in words:
        assert words[words.index("--source") + 1] in SOURCES
    flags = {word for word in words if word.startswith("--")}
    assert flags <= set(re.findall(r"--\w+", _help("pack.py")))


def test_the_readme_names_only_flags_that_exist() -> None:
    known = set(re.findall(r"--[\w.]+", _help("train.py") + _help("pack.py"))) | {"--config"}
    table = README[README.index("| predecessor") :]
    named = set(re.findall(r"`(--[\w.]+)", table[: table.index("\n\n")]))
    assert len(named) > 20
    assert named <= known


def test_the_sample_is_packed_inspected_and_verified_as_the_readme_says(tmp_path: Path) -> None:
    for arguments, status, said in (
        (["--source", "sample", "--cache", "c", "--out", "s"], 0, "packed 2,500 train, 500 val"),
        (["--source", "sample", "--cache", "c", "--out", "s"], 2, "error: s is not empty"),
        (["--verify", "s"], 0, "s is sound"),
        (["--inspect", "s"], 0, "s/contact-sheet.png"),
    ):
        result = _pack(tmp_path, arguments)
        assert result.returncode == status, result.stderr
        assert said in " ".join((result.stdout + result.stderr).split())
    assert (tmp_path / "s" / "contact-sheet.png").stat().st_size > 10_000
    shard = next((tmp_path / "s/val").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1])
    result = _pack(tmp_path, ["--verify", "s"])
    assert result.returncode == 1
    assert f"{shard.relative_to(tmp_path)} is damaged" in result.stdout


def test_constraints_pin_every_dependency_within_its_bounds() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    for requirement in map(Requirement, wanted.split()):
        assert pins[requirement.name.lower()] in requirement.specifier, requirement


@pytest.mark.parametrize("path", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=str)
def test_accelerate_reads_its_configs(path: Path) -> None:
    assert path.read_text().startswith("# ")
    config = load_config_from_file(str(path))
    assert config.num_processes == yaml.safe_load(path.read_text())["num_processes"]
    assert config.num_processes % config.num_machines == 0


def _pack(cwd: Path, arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "launch/pack.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )


def _help(script: str) -> str:
    command = [sys.executable, str(ROOT / "launch" / script), "--help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("tinynet/**/*.py"), *ROOT.glob("launch/*.py")]), ids=lambda p: p.name
)
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
