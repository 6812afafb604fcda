"""The proximity matrices of an experiment as a figure: what the clustering had before it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from feddag_flwr.report.reading import DAMAGE
from feddag_lab.experiments.finished import FinishedTrial
from feddag_lab.experiments.plots import literal, save
from feddag_lab.experiments.product import PROXIMITY
from feddag_lab.experiments.results import Results

logger = logging.getLogger(__name__)

INCHES = 1.25
# Inches that the last column's title may reach beyond it: the layout does not see slanted text.
LAST_TITLE = 0.6


class Picture(NamedTuple):
    """A run's proximity matrix, clients in the order of their true groups."""

    matrix: NDArray[np.float64]
    borders: NDArray[np.intp]
    seed: int


def plot_matrices(path: Path, results: Results) -> bool:
    """Draw the proximity matrix A of one seed, algorithm by scenario; False where there is none.

    The first seed of an algorithm on a scenario that has one. Clients are sorted by true group,
    those of no known group last, lines part the groups; dark is alike, on the scale of A from 0 to
    1 in every picture.
    """
    pictures = {
        (algorithm, scenario): picture
        for algorithm in results.suite.algorithms
        for scenario in results.suite.scenarios
        if (picture := _picture(results.finished(scenario, algorithm))) is not None
    }
    if not pictures:
        return False
    algorithms = [a for a in results.suite.algorithms if any(a == key[0] for key in pictures)]
    scenarios = [s for s in results.suite.scenarios if any(s == key[1] for key in pictures)]
    width = 1.2 + LAST_TITLE + INCHES * len(scenarios)
    figure = Figure(figsize=(width, 1.3 + INCHES * len(algorithms)))
    figure.set_layout_engine("constrained", rect=(0, 0, 1 - LAST_TITLE / width, 1))
    grid = figure.subplots(len(algorithms), len(scenarios), squeeze=False)
    for (row, column), axes in np.ndenumerate(grid):
        _draw(axes, pictures.get((algorithms[row], scenarios[column])))
        if column == 0:
            axes.set_ylabel(literal(algorithms[row]))
        if row == 0:
            axes.set_title(literal(scenarios[column]), fontsize=8, rotation=30, ha="left")
    seeds = ", ".join(map(str, sorted({picture.seed for picture in pictures.values()})))
    figure.supxlabel(f"proximity of clients in the order of true groups; seed {seeds}", fontsize=9)
    save(figure, path)
    return True


def _picture(trials: dict[int, FinishedTrial]) -> Picture | None:
    """Take the first run that has a matrix; a damaged one costs a log line and is passed over."""
    for seed, trial in trials.items():
        path = trial.folder / PROXIMITY
        try:
            matrix, names = _read(path)
        except FileNotFoundError:
            continue
        except DAMAGE as error:
            logger.warning("%s is not drawn: %s: %s", path, type(error).__name__, error)
            continue
        if matrix is None:
            return None
        known = trial.true_groups
        last = max(known.values(), default=-1) + 1  # clients of no known group
        groups = np.array([known.get(name, last) for name in names])
        order = np.argsort(groups, kind="stable")
        borders = np.flatnonzero(np.diff(groups[order])) + 1
        return Picture(matrix[np.ix_(order, order)], borders, seed)
    return None


def _read(path: Path) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Read A and the clients of its rows; None where the algorithm has other matrices."""
    with np.load(path, allow_pickle=False) as arrays:
        if "fused" not in arrays:
            return None, []
        matrix, names = arrays["fused"], arrays["clients"].tolist()
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f"a matrix of shape {matrix.shape} for {len(names)} clients")
    return matrix, names


def _draw(axes: Axes, picture: Picture | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if picture is None:
        axes.set_axis_off()
        return
    axes.imshow(picture.matrix, cmap="cividis", interpolation="nearest", vmin=0.0, vmax=1.0)
    for border in picture.borders - 0.5:
        axes.axhline(border, color="white", linewidth=0.4)
        axes.axvline(border, color="white", linewidth=0.4)
