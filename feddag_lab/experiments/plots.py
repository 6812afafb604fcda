"""The report's figures, for print and for readers who do not tell red from green."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from feddag_lab.experiments.accuracy_tables import percent
from feddag_lab.experiments.comparison import reference_of
from feddag_lab.experiments.published import Published
from feddag_lab.experiments.results import Results
from feddag_lab.experiments.statistics import mean_and_deviation

DPI = 150
LABEL_INCHES = 0.15
MEGABYTE = 1e6

# Okabe and Ito's colours: told apart by all common kinds of colour vision. One is the reference's.
REFERENCE_COLOUR = "#D55E00"
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#595959")
TEXT_COLOUR = "#222222"
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.2)))


def literal(text: str) -> str:
    """Escape the sign by which Matplotlib takes what follows for a formula."""
    return text.replace("$", r"\$")


class Style(NamedTuple):
    """How an algorithm is drawn in every figure."""

    colour: str
    dashes: str | tuple[int, tuple[float, ...]]
    width: float
    order: int

    @property
    def is_reference(self) -> bool:
        """Whether it is the algorithm that the others are held against."""
        return self.colour == REFERENCE_COLOUR


def styles_of(results: Results) -> dict[str, Style]:
    """Give each algorithm a style: the reference a colour of its own, thick and on top."""
    reference = reference_of(results)
    styles = {}
    baselines = [name for name in results.suite.algorithms if name != reference]
    for index, name in enumerate(baselines):
        dashes = DASHES[index // len(COLOURS) % len(DASHES)]
        styles[name] = Style(COLOURS[index % len(COLOURS)], dashes, 1.3, 2)
    return {**styles, reference: Style(REFERENCE_COLOUR, "-", 2.8, 4)}


def mean_curve(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Take the mean over seeds, at the rounds that all of them have.

    Parameters
    ----------
    curves : sequence of DataFrame
        Of each seed, ``accuracy`` (shares) and ``bytes`` by round.

    Returns
    -------
    DataFrame
        By round, ``megabytes``, and ``mean``, ``low`` and ``high`` of the accuracy in percent.
    """
    accuracy, sent = (
        pd.concat([curve[column] for curve in curves], axis=1, join="inner").sort_index()
        for column in ("accuracy", "bytes")
    )
    percent = 100 * accuracy
    return pd.DataFrame(
        {
            "megabytes": sent.mean(axis=1) / MEGABYTE,
            "mean": percent.mean(axis=1),
            "low": percent.min(axis=1),
            "high": percent.max(axis=1),
        }
    )


def spread(values: Sequence[float], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move values apart until neighbours keep a gap, as little as possible in squares.

    Parameters
    ----------
    values : sequence of float
        Where labels would stand.
    gap : float
        Least distance; made smaller where [low, high] has no room for it.
    low, high : float
        Ends of the room.

    Returns
    -------
    ndarray, shape (n,)
        Where they stand, in the order of `values`.
    """
    order = np.argsort(values, kind="stable")
    gap = min(gap, (high - low) / max(1, len(values) - 1))
    steps = gap * np.arange(len(values))
    # With the gaps taken out, "at least a gap apart" means "not falling".
    fitted = isotonic_regression(
        np.asarray(values, dtype=np.float64)[order] - steps, y_min=low, y_max=high - steps[-1]
    )
    placed = np.empty(len(values))
    placed[order] = fitted + steps
    return placed


def plot_curves(path: Path, results: Results, scenario: str) -> bool:
    """Draw accuracy against rounds and against bytes; False when there is nothing to draw."""
    curves = {
        name: mean_curve([trial.curve for trial in trials.values()])
        for name in results.suite.algorithms
        if (trials := results.finished(scenario, name))
    }
    curves = {name: curve for name, curve in curves.items() if not curve.empty}
    if not curves:
        return False
    figure = Figure(figsize=(11.5, max(4.4, 1.2 + 0.24 * len(curves))), layout="constrained")
    by_bytes, by_rounds = figure.subplots(1, 2, sharey=True)
    styles = styles_of(results)
    for name, curve in curves.items():
        _draw_curve(by_bytes, curve["megabytes"], curve, styles[name])
        _draw_curve(by_rounds, curve.index, curve, styles[name])
    _label_ends(by_rounds, curves, styles, figure.get_figheight())
    by_bytes.set_xlabel("MB a client so far, both ways, evaluation left out")
    by_rounds.set_xlabel("round")
    whose = "clients seen in training, " if results.judges_unseen(scenario) else ""
    by_bytes.set_ylabel("balanced accuracy, %")
    # A little room, so that lines without any bytes do not lie on the axis.
    by_bytes.set_xlim(left=-0.02 * by_bytes.get_xlim()[1])
    by_rounds.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (by_bytes, by_rounds):
        _clean(axes)
    most = max(len(results.finished(scenario, name)) for name in curves)
    seeds = "1 seed" if most == 1 else "mean over seeds, band from worst to best seed"
    figure.suptitle(f"{literal(scenario)}\n{whose}{seeds}", fontsize=11)
    save(figure, path)
    return True


def _draw_curve(axes: Axes, along: pd.Series | pd.Index, curve: pd.DataFrame, style: Style) -> None:
    at, mean = (np.asarray(each, dtype=np.float64) for each in (along, curve["mean"]))
    colour, order = style.colour, style.order
    axes.plot(at, mean, c=colour, ls=style.dashes, lw=style.width, zorder=order)
    axes.plot(at[-1:], mean[-1:], "o", ms=3.5, c=colour, zorder=order)
    axes.fill_between(at, curve["low"], curve["high"], color=colour, alpha=0.12, linewidth=0)


def _label_ends(
    axes: Axes, curves: Mapping[str, pd.DataFrame], styles: Mapping[str, Style], height: float
) -> None:
    """Write each name at the end of its line, moved apart, with a thin line to where it belongs.

    `height` is the figure's in inches, of which the axes take about four fifths.
    """
    ends = [float(curve["mean"].iloc[-1]) for curve in curves.values()]
    low, high = axes.get_ylim()
    inches = 0.8 * height
    places = spread(ends, LABEL_INCHES * (high - low) / inches, low, high)
    for (name, curve), end, place in zip(curves.items(), ends, places, strict=True):
        style = styles[name]
        axes.annotate(
            f"{literal(name)} {end:.1f}",
            xy=(float(curve.index[-1]), end),
            xytext=(1.07, float(place)),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=style.colour if style.is_reference else TEXT_COLOUR,
            fontweight="bold" if style.is_reference else "normal",
            arrowprops={
                "arrowstyle": "-",
                "color": style.colour,
                "lw": 0.9,
                "linestyle": style.dashes,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 2,
            },
            annotation_clip=False,
        )


def plot_rand_index(path: Path, results: Results) -> bool:
    """Draw the adjusted Rand index, algorithm by scenario; False where it is known nowhere."""
    algorithms, scenarios = list(results.suite.algorithms), list(results.suite.scenarios)
    index = results.table.pivot_table(
        "adjusted-rand-index", "algorithm", "scenario", aggfunc="mean", dropna=False
    )
    grid = index.reindex(index=algorithms, columns=scenarios).to_numpy(dtype=np.float64)
    if np.isnan(grid).all():
        return False
    height = 1.6 + 0.3 * len(algorithms) + 0.07 * max(map(len, scenarios))
    figure = Figure(figsize=(3.4 + 1.05 * len(scenarios), height), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#eeeeee")
    image = axes.imshow(grid, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(grid):
        unknown = bool(np.isnan(value))
        ran = not results.rows(scenarios[column], algorithms[row]).empty
        axes.text(
            column, row, ("n/a" if ran else "-") if unknown else f"{value:.2f}", ha="center",
            va="center", fontsize=8.5,
            color="#666666" if unknown else "black" if value > 0.55 else "white",
        )  # fmt: skip
    axes.set_xticks(range(len(scenarios)), list(map(literal, scenarios)), rotation=35, ha="right")
    axes.set_yticks(range(len(algorithms)), list(map(literal, algorithms)))
    axes.get_yticklabels()[algorithms.index(reference_of(results))].set_fontweight("bold")
    figure.colorbar(image, ax=axes, label="adjusted Rand index, mean over seeds", extend="min")
    figure.supxlabel("-: not run, n/a: not defined", fontsize=8)
    save(figure, path)
    return True


def plot_published(
    path: Path,
    results: Results,
    published: Mapping[str, Mapping[str, Published]],
    caption: str,
) -> bool:
    """Draw our figure beside the published one, a panel a scenario; False where none has both.

    Parameters
    ----------
    path : Path
    results : Results
    published : mapping of str to mapping
        By scenario, the published figures by algorithm.
    caption : str
        In what the settings differ.
    """
    panels = {}
    for scenario, figures in published.items():
        both = [
            name
            for name in results.suite.algorithms
            if name in figures and len(percent(results.rows(scenario, name)["main"]))
        ]
        if both:
            panels[scenario] = both
    if not panels:
        return False
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    tallest = max(map(len, panels.values()))
    figure = Figure(
        figsize=(1.2 + 4.2 * columns, rows * (1.5 + 0.27 * tallest)), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (scenario, names) in zip(grid, panels.items(), strict=False):
        _draw_published(axes, results, scenario, names, published[scenario])
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel(literal(caption), fontsize=8, wrap=True)
    found = [axes.get_legend_handles_labels() for axes in grid]
    # The panel with most entries has them all: only the reference may be missing in one.
    handles, labels = max(found, key=lambda each: len(each[1]))
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    save(figure, path)
    return True


def _draw_published(
    axes: Axes,
    results: Results,
    scenario: str,
    names: Sequence[str],
    published: Mapping[str, Published],
) -> None:
    places = np.arange(len(names), 0, -1)
    ours = [mean_and_deviation(percent(results.rows(scenario, name)["main"])) for name in names]
    means, theirs = [mean for mean, _ in ours], [published[name] for name in names]
    axes.hlines(places, means, [each.mean for each in theirs], color="#bbbbbb", lw=1, zorder=1)
    axes.errorbar(
        [each.mean for each in theirs], places, xerr=[each.deviation for each in theirs], fmt="D",
        ms=5.5, color="#333333", mfc="white", elinewidth=1, label="published, ± std", zorder=2,
    )  # fmt: skip
    one_seed = all(deviation is None for _, deviation in ours)
    axes.errorbar(
        means, places, xerr=None if one_seed else [deviation or np.nan for _, deviation in ours],
        fmt="o", ms=5.5, color="#0072B2", elinewidth=1, zorder=3,
        label="this experiment, " + ("1 seed" if one_seed else "± std over seeds"),
    )  # fmt: skip
    if (reference := reference_of(results)) in names:
        row = names.index(reference)
        axes.plot(
            means[row], places[row], "o", ms=6.5, color=REFERENCE_COLOUR, zorder=4,
            label=f"{literal(reference)} in this experiment",
        )  # fmt: skip
    axes.set_yticks(places, list(map(literal, names)))
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == reference else "normal")
    axes.set_xlabel("balanced accuracy, %")
    whose = " (clients unseen in training)" if results.judges_unseen(scenario) else ""
    axes.set_title(literal(scenario) + whose, fontsize=10)
    _clean(axes)


def _clean(axes: Axes) -> None:
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the report's resolution."""
    figure.savefig(path, dpi=DPI, facecolor="white")
