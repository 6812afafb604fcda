"""What a demonstration trains on: handwritten digits of four wards, or four hospitals' tables."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from feddag_flwr.flower.run_config import Value, parse_overrides
from feddag_lab.demonstration.example_parts import write_parts

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
NAMES = ("wards", "heart")


class Example(NamedTuple):
    """Clients, their files and the settings that read them.

    Attributes
    ----------
    write : callable
        Writes a file for each client into a folder; returns them by name, in order.
    settings : mapping
    """

    write: Callable[[Path], dict[str, Path]]
    settings: Mapping[str, Value]


def example(name: str, app_dir: Path, data_dir: Path | None) -> Example:
    """Return the example of a name.

    Parameters
    ----------
    name : str
        Of `NAMES`.
    app_dir : Path
        Where the folder ``examples`` is.
    data_dir : Path | None
        Of ``heart``: the folder of its four tables, which are not part of the project.

    Raises
    ------
    ValueError
        Data is missing, or given where none is read.
    """
    if name == "heart":
        return _heart(app_dir, data_dir)
    if data_dir is not None:
        raise ValueError(f"--data-dir {data_dir}: the example {name!r} brings its own data")
    return Example(write_parts, {"scenario": "own", "dataset": "npz", "num-clients": 4})


def _heart(app_dir: Path, data_dir: Path | None) -> Example:
    if data_dir is None:
        raise ValueError("the example 'heart' needs --data-dir, the folder of its four tables")
    tables = {name: data_dir.expanduser() / f"{name}.csv" for name in HOSPITALS}
    if missing := [str(path) for path in tables.values() if not path.is_file()]:
        raise ValueError(f"--data-dir {data_dir}: no file {', '.join(missing)}")

    def write(folder: Path) -> dict[str, Path]:
        return {name: Path(shutil.copy(path, folder / path.name)) for name, path in tables.items()}

    return Example(write, parse_overrides([str(app_dir / "examples/heart/run.toml")]))
