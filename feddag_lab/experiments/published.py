"""The published figures of arXiv 2602.23504, to stand beside an experiment's own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, NamedTuple

import yaml

# The settings of the published figures (Sec. 5, B.1) that decide most about an accuracy. Batches
# are of 10 in Sec. 5 and of 64 in B.1.
PAPER_SETTINGS: Mapping[str, float] = {
    "num-clients": 100,
    "num-rounds": 200,
    "participation": 0.2,
    "local-epochs": 10,
    "batch-size": 64,
    "train-share": 1.0,
}


class Published(NamedTuple):
    """A published accuracy in percent: mean and standard deviation."""

    mean: float
    deviation: float


def published_figures(path: str) -> dict[str, Published]:
    """Look up one column of one published table.

    Parameters
    ----------
    path : str
        Table, its part where it has several, and column: ``"table_10/label_skew_30/fmnist"``,
        ``"table_2/fmnist"``.

    Returns
    -------
    dict of str to Published
        By the paper's name of the algorithm, in the table's order.

    Raises
    ------
    KeyError
        There is no such column.
    """
    *folders, column = path.split("/")
    part: Any = _tables()
    for name in folders:
        if not isinstance(part, dict) or name not in part:
            raise KeyError(f"no published figures at {path!r}: {name!r} is not there")
        part = part[name]
    columns = part.get("columns") if isinstance(part, dict) else None
    if columns is None or column not in columns or "rows" in part:
        raise KeyError(f"no published figures at {path!r}: {column!r} is not a column there")
    index = columns.index(column)
    return {name: Published(*row[index]) for name, row in part.items() if name != "columns"}


def title_of(path: str) -> str:
    """Name a published column: ``"Table 10, label skew 30 %, fmnist"``."""
    table, *rest = path.split("/")
    words = [table.replace("table_", "Table ")]
    for part in rest:
        percent = " %" if part.startswith("label_skew_") else ""
        words.append(part if part == rest[-1] else part.replace("_", " ") + percent)
    return ", ".join(words)


def differing_settings(runs: Iterable[Mapping[str, Any]]) -> str:
    """Say in which of `PAPER_SETTINGS` runs differ from the paper's; empty where in none.

    Parameters
    ----------
    runs : iterable of mappings
        The settings of each run, complete.

    Returns
    -------
    str
        ``"num-rounds 40 (paper: 200)"``, one for each setting that differs.
    """
    all_runs = list(runs)
    found = []
    for name, wanted in PAPER_SETTINGS.items():
        values = sorted({_short(run[name]) for run in all_runs})
        if values and values != [_short(wanted)]:
            found.append(f"{name} {' or '.join(values)} (paper: {_short(wanted)})")
    return ", ".join(found)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


@functools.cache
def _tables() -> dict[str, Any]:
    text = resources.files("feddag_lab.experiments").joinpath("published.yaml")
    tables: dict[str, Any] = yaml.safe_load(text.read_text(encoding="utf-8"))
    return tables
