"""The run configuration of one simulation: parsed, checked and completed before Flower starts."""

import difflib
import json
import logging
import re
import tomllib
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from feddag_flwr.flower.private import flatten_dict
from feddag_flwr.flower.toml_files import read_toml

logger = logging.getLogger("flwr")

Value = bool | int | float | str
ALLOWED = "a number, a text in quotes, true or false"
RUN_DIR = "run-dir"
DATA_DIR = "data-dir"
WEIGHTS = ("encoder-weights", "view-weights")
RESUME = "resume"
NUM_CLIENTS = "num-clients"
DEFAULT_RUN_DIR = "runs"
TOML = ".toml"
# What blanks part, but for those within quotes; a quote that nobody closes ends with the text.
WORD = re.compile(r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|[^\s"'])+""")
PAIR = re.compile(r"""(?P<key>[^="']+)=(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^"'#]+)""")


def parse_overrides(texts: Sequence[str], option: str = "--run-config") -> dict[str, Value]:
    """Parse the values of an option that may be given several times; a later one wins.

    Flower's own parser passes over what it does not understand; this one refuses it.

    Parameters
    ----------
    texts : Sequence[str]
        Each either ``key=value`` pairs, with TOML values, or the path of a TOML file.
    option : str
        What messages call the option.

    Returns
    -------
    dict[str, Value]
        The merged settings, nested keys joined by dots.

    Raises
    ------
    ValueError
        A text, or a part of one, is neither a pair nor a file that can be read, or has a key
        twice. The message names the part.
    """
    merged: dict[str, Value] = {}
    for text in texts:
        path = Path(text.strip()).expanduser()
        if path.suffix == TOML and (path.is_file() or "=" not in text):
            parsed = _read_settings(path, option)
        else:
            parsed = _parse_pairs(text, option)
        if again := sorted(merged.keys() & parsed.keys()):
            logger.warning("%s: of %s the last value holds", option, ", ".join(again))
        merged.update(parsed)
    return merged


def _read_settings(path: Path, option: str) -> dict[str, Value]:
    try:
        return _flat(read_toml(path), str(path))
    except OSError as error:
        raise ValueError(f"{option} {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{option} {error}") from None


def _parse_pairs(text: str, option: str) -> dict[str, Value]:
    parsed: dict[str, Value] = {}
    for word in WORD.findall(text):
        pair = PAIR.fullmatch(word)
        if pair is None:
            hint = ": a TOML file stands alone" if word.endswith(TOML) else ""
            raise ValueError(f"{option} {text!r}: {word!r} is no key=value pair{hint}")
        try:
            settings = _flat(tomllib.loads(f"{pair['key']} = {pair['value']}"), repr(word))
        except tomllib.TOMLDecodeError:
            raise ValueError(
                f"{option} {text!r}: {word!r} is no TOML; a text needs quotes: "
                f'{pair["key"]}="{pair["value"]}"'
            ) from None
        except ValueError as error:
            raise ValueError(f"{option} {error}") from None
        if again := parsed.keys() & settings.keys():
            raise ValueError(f"{option} {text!r}: {min(again)!r} is given twice")
        parsed.update(settings)
    return parsed


def _flat(nested: dict[str, Any] | None, source: str) -> dict[str, Value]:
    """Join nested keys by dots.

    Raises
    ------
    ValueError
        A value is a list, a date or an empty table; the message names source, key and value.
    """
    for key, value in (nested or {}).items():
        if isinstance(value, dict) and value:
            _flat(value, f"{source}: in {key}")
        elif not isinstance(value, Value):
            raise ValueError(f"{source}: {key} = {value!r} must be {ALLOWED}")
    flat: dict[str, Value] = flatten_dict(nested)
    return flat


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
        The folder holds no Flower app, or one whose ``pyproject.toml`` Flower cannot read.
    """
    path = app_dir / "pyproject.toml"
    try:
        if path.read_bytes().startswith(BOM_UTF8):
            raise ValueError(f"{path} begins with a byte order mark, which Flower refuses")
        app = read_toml(path)["tool"]["flwr"]["app"]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{app_dir} holds no pyproject.toml") from None
    except KeyError:
        raise ValueError(f"{path} has no [tool.flwr.app]") from None
    return _flat(app.get("config"), str(path))


def read_run_settings(run_folder: Path) -> dict[str, Value]:
    """Return the settings that a run left in its folder.

    Raises
    ------
    ValueError
        The folder is no run's.
    """
    path = run_folder / "settings.json"
    try:
        settings = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{run_folder} is no run folder: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{run_folder} is no run folder: {path} holds no settings")
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
        The overrides, with ``run-dir``, ``data-dir``, ``resume`` and files of weights absolute
        where the app has them.

    Raises
    ------
    ValueError
        If the app has no setting of that name.
    """
    for key in overrides:
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"run config {key!r} = {overrides[key]!r} is not a setting of this app{hint}"
            )
    completed = dict(overrides)
    kinds = dict.fromkeys((RUN_DIR, DATA_DIR, RESUME), "folder") | dict.fromkeys(WEIGHTS, "file")
    for key, kind in kinds.items():
        fallback = DEFAULT_RUN_DIR if key == RUN_DIR else ""
        path = overrides.get(key, defaults.get(key)) or fallback
        if key in defaults and not isinstance(path, str):
            raise ValueError(f"setting {key} = {path!r}: must be the path of a {kind}, a text")
        if key in defaults and path:
            completed[key] = str((caller_dir / Path(str(path)).expanduser()).resolve())
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
