"""Defaults, then a YAML file, then flags, to a ``Config``; the later one wins."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import tyro
import yaml
from pydantic import TypeAdapter, ValidationError

from tinynet.config import Config, check
from tinynet.errors import UserError


def load_config(arguments: Sequence[str], say_errors: bool = True) -> Config:
    """Read ``--config FILE`` if given, then the flags over it.

    Raises ``UserError`` for a bad file or value. A bad flag ends the program with status 2, as
    tyro does; ``say_errors`` false keeps it from being said by every rank.
    """
    file, flags = _config_file(arguments)
    config = tyro.cli(
        Config,
        args=flags,
        default=read_config(file) if file else Config(),
        prog="train.py",
        description="Train an image classifier. `--config FILE` reads a YAML file first.",
        console_outputs=say_errors,
        use_underscores=True,
    )
    if config.run_name is None:
        name = file.stem if file else config.model.name
        config = replace(config, run_name=name if config.epochs else f"{name}-eval")
    check(config)
    return config


def read_config(path: Path) -> Config:
    """Read a YAML file of settings that differ from the defaults; ``UserError`` names the key."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"--config {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        return TypeAdapter(Config).validate_python(values or {})
    except ValidationError as error:
        problems = "; ".join(_explain(dict(problem)) for problem in error.errors())
        raise UserError(f"{path}: {problems}") from None


def to_yaml(config: Config) -> str:
    """The whole configuration as a file that ``--config`` reads back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def _config_file(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config FILE`` or ``--config=FILE`` out of the flags."""
    flags, files, rest = [], [], iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name != "--config":
            flags.append(argument)
        elif equals:
            files.append(value)
        else:
            files.append(next(rest, ""))
    if len(files) > 1 or "" in files:
        raise UserError("give --config one file, once")
    return (Path(files[0]) if files else None), flags


def _explain(problem: dict[str, Any]) -> str:
    """One sentence for a problem that pydantic found."""
    *where, key = [str(part) for part in problem["loc"]] or ["file"]
    name = ".".join([*where, key])
    if problem["type"] != "unexpected_keyword_argument":
        return f"{name} = {problem['input']!r} is wrong: {problem['msg']}"
    known = _keys(Config)
    near = difflib.get_close_matches(name, known, 1, 0.5) or difflib.get_close_matches(
        key, [path.rsplit(".", 1)[-1] for path in known], 1, 0.5
    )
    full = [path for path in known if near and (path == near[0] or path.endswith(f".{near[0]}"))]
    hint = f", did you mean {full[0]}?" if full else f": known keys are {', '.join(known)}"
    return f"unknown key {name}{hint}"


def _keys(section: Callable[..., Any]) -> list[str]:
    """All keys with their section: ``epochs``, ``optimizer.lr``, …"""
    keys = []
    for item in fields(section):  # type: ignore[arg-type]
        inner = item.type
        if is_dataclass(inner):
            keys += [f"{item.name}.{key}" for key in _keys(inner)]  # type: ignore[arg-type]
        keys.append(item.name)
    return keys
