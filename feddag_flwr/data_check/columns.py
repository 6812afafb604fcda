"""Weaknesses of a table's columns: each a sentence with names and numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.client import ClientData
from feddag_flwr.data.settings import DataSettings, column_list
from feddag_flwr.data_check.words import listed

# Share of a column's cells that may be empty before it is named.
MOST_EMPTY = 0.5


def weak_columns(data: ClientData) -> Iterator[str]:
    """Look for columns that are empty, constant or look like numbers of persons; rare levels."""
    table = data.train.samples
    names = list(table.dtype.names or ())
    empty = {name: float(_empty(table[name]).mean()) for name in names}
    if sparse := [name for name in names if empty[name] > MOST_EMPTY]:
        yield (
            "columns of which more than half is empty, for which the federation's mean and a sign "
            "stand in: " + listed([f"{name} ({empty[name]:.0%})" for name in sparse])
        )
    if constant := [name for name in names if empty[name] < 1 and _is_constant(table[name])]:
        yield f"columns with one value only teach nothing here: {listed(constant)}"
    if keys := [name for name in names if _is_key(table[name])]:
        yield (
            "columns with another whole number in each row look like numbers of persons, not "
            f"features; name them in drop-columns: {listed(keys)}"
        )
    rare = [f"{name} = {level!r}" for name in names for level in _rare_levels(table[name])]
    if rare:
        yield (
            "levels that one training row has are told to all clients, as all levels are: "
            + listed(rare)
        )


def unknown_columns(names: Collection[str], data: DataSettings) -> Iterator[str]:
    """Say which columns that settings name are not there: other clients may have them."""
    for key, given in (
        ("categorical-columns", data.categorical_columns),
        ("drop-columns", data.drop_columns),
    ):
        unknown = [name for name in column_list(given) if name not in names]
        if unknown:
            yield f"setting {key}: no column {listed([repr(name) for name in unknown])} here"


def _empty(cells: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.isnan(cells) if cells.dtype.kind == "f" else cells == ""
    return found


def _is_constant(cells: NDArray[Any]) -> bool:
    return len(np.unique(cells[~_empty(cells)])) == 1


def _is_key(cells: NDArray[Any]) -> bool:
    """Tell whether all cells are filled with different whole numbers."""
    if cells.dtype.kind != "f" or len(cells) < 3 or np.isnan(cells).any():
        return False
    return bool((cells == np.trunc(cells)).all()) and len(np.unique(cells)) == len(cells)


def _rare_levels(cells: NDArray[Any]) -> list[str]:
    if cells.dtype.kind == "f":
        return []
    levels, counts = np.unique(cells[cells != ""], return_counts=True)
    found: list[str] = levels[counts == 1].tolist()
    return found
