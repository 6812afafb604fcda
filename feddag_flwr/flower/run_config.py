"""The run configuration of one simulation: parsed, checked and completed before Flower starts."""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import tomli_w
from flwr.common.config import flatten_dict, parse_config_args

Value = bool | int | float | str
RUN_DIR = "run-dir"
DATA_DIR = "data-dir"
RESUME = "resume"
NUM_CLIENTS = "num-clients"
DEFAULT_RUN_DIR = "runs"


def parse_overrides(texts: Sequence[str]) -> dict[str, Value]:
    """Parse the values of ``--run-config`` as Flower does; a later one lowest.

    Parameters
    ----------
    texts : Sequence[str]
        Each either ``key=value`` pairs, with TOML values, or the path of a TOML file.

    Returns
    -------
    dict[str, Value]
        The merged settings, nested keys joined by dots.

    Raises
    ------
    ValueError
        If a text holds no setting, or one that is not TOML.
    """
    merged: dict[str, Value] = {}
    for text in texts:
        try:
            parsed: dict[str, Value] = parse_config_args([text])
        except (click.ClickException, OSError, tomllib.TOMLDecodeError) as error:
            reason = error.message if isinstance(error, click.ClickException) else str(error)
            raise ValueError(f"--run-config {text!r}: {reason}") from error
        if text.strip() and not parsed:
            raise ValueError(f"--run-config {text!r} holds no key=value pair")
        merged.update(parsed)
    return merged


def read_defaults(app_dir: Path) -> dict[str, Value]:
    """Return ``[tool.flwr.app.config]`` of an app.

    Parameters
    ----------
    app_dir : Path
        The folder of its ``pyproject.toml``.

    Returns
    -------
    dict[str, Value]
        Its settings, nested keys joined by dots.

    Raises
    ------
    ValueError
        If the folder holds no Flower app.
    """
    try:
        project: dict[str, Any] = tomllib.loads((app_dir / "pyproject.toml").read_text("utf-8"))
        defaults: dict[str, Value] = flatten_dict(project["tool"]["flwr"]["app"].get("config"))
    except FileNotFoundError:
        raise ValueError(f"{app_dir} holds no pyproject.toml") from None
    except KeyError:
        raise ValueError(f"{app_dir / 'pyproject.toml'} has no [tool.flwr.app]") from None
    return defaults


def read_run_settings(run_folder: Path) -> dict[str, Value]:
    """Return the settings that a run left in its folder.

    Raises
    ------
    ValueError
        The folder is no run's.
    """
    path = run_folder / "settings.json"
    try:
        settings: dict[str, Value] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{run_folder} is no run folder: {error}") from None
    return settings


def complete_overrides(
    overrides: Mapping[str, Value], defaults: Mapping[str, Value], caller_dir: Path
) -> dict[str, Value]:
    """Check the overrides and make the folders they name absolute.

    The ServerApp runs in another folder than the caller: a relative path would end there.

    Parameters
    ----------
    overrides : Mapping[str, Value]
        The settings of this run.
    defaults : Mapping[str, Value]
        The settings of the app.
    caller_dir : Path
        What relative folders are relative to.

    Returns
    -------
    dict[str, Value]
        The overrides, with ``run-dir``, ``data-dir`` and ``resume`` absolute where the app has
        them.

    Raises
    ------
    ValueError
        If the app has no setting of that name.
    """
    for key in overrides:
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"run config {key!r} is not a setting of this app{hint}")
    completed = dict(overrides)
    for key, fallback in ((RUN_DIR, DEFAULT_RUN_DIR), (DATA_DIR, ""), (RESUME, "")):
        folder = overrides.get(key, defaults.get(key)) or fallback
        if key in defaults and folder:
            completed[key] = str((caller_dir / Path(str(folder)).expanduser()).resolve())
    return completed


def count_supernodes(overrides: Mapping[str, Value], defaults: Mapping[str, Value]) -> int:
    """Return how many clients the run configuration asks for.

    Parameters
    ----------
    overrides : Mapping[str, Value]
        The settings of this run.
    defaults : Mapping[str, Value]
        The settings of the app.

    Returns
    -------
    int
        ``num-clients``, at least 1.

    Raises
    ------
    ValueError
        If there is no such setting, or it is no positive integer.
    """
    number = overrides.get(NUM_CLIENTS, defaults.get(NUM_CLIENTS))
    if number is None:
        raise ValueError(f"the app has no setting {NUM_CLIENTS!r}: give --num-supernodes")
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{NUM_CLIENTS} is {number!r}; it must be an integer of at least 1")
    return number


def write_overrides(overrides: Mapping[str, Value], path: Path) -> None:
    """Write a TOML file for ``flwr run --run-config``, which keeps quotes and spaces whole.

    Parameters
    ----------
    overrides : Mapping[str, Value]
        The settings of this run.
    path : Path
        The file; its name must end in ``.toml``.
    """
    path.write_text(tomli_w.dumps(dict(overrides)), encoding="utf-8")
