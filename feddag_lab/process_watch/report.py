"""Tables and the figure of what processes took, round by round."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from feddag_lab.process_watch.trend import TOTAL, Trend

DPI = 150
TOTAL_COLOUR = "#222222"
# Okabe and Ito's colours: told apart by all common kinds of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#595959")
PANELS = {"rss_mb": "resident memory, MB", "handles": "open file handles", "processes": "processes"}


def write_rounds(rounds: pd.DataFrame, path: Path) -> None:
    """Write what each role took in each round, see `by_round`, as CSV."""
    rounds.round(2).to_csv(path)


def tabulate(trends: Iterable[Trend], title: str) -> Table:
    """Tabulate trends, each with its verdict."""
    table = Table(title=title)
    table.add_column("processes")
    table.add_column("of their")
    for column in ("level", "a round", "95 % interval", "of the level"):
        table.add_column(column, justify="right")
    table.add_column("flat")
    for role, of_it in groupby(trends, lambda trend: trend.role):
        for number, trend in enumerate(of_it):
            table.add_row(
                "" if number else role,
                trend.quantity,
                f"{trend.level:,.0f}",
                f"{trend.slope:+.3f}",
                f"{trend.low:+.3f} to {trend.high:+.3f}",
                f"{trend.share:+.3%}",
                "yes" if trend.flat else "NO",
            )
        table.add_section()
    return table


def plot(rounds: pd.DataFrame, window: tuple[int, int], title: str, path: Path) -> None:
    """Draw memory, handles and processes of every role against rounds.

    Parameters
    ----------
    rounds : DataFrame
        As `by_round` gives it.
    window : tuple of int
        The rounds that are judged; the others are shaded.
    title : str
        Of the figure.
    path : Path
        The file; its name gives the format.
    """
    figure = Figure(figsize=(10.5, 9.0), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for each, (column, label) in zip(axes, PANELS.items(), strict=True):
        for index, role in enumerate(map(str, rounds.index.unique("role"))):
            colour, width = COLOURS[index % len(COLOURS)], 1.5
            if role == TOTAL:
                colour, width = TOTAL_COLOUR, 2.2
            values = rounds.xs(role)[column]
            each.plot(values.index, values, color=colour, linewidth=width, label=role)
        each.set_ylabel(label)
        each.set_ylim(bottom=0)
        each.axvspan(each.get_xlim()[0], window[0], color="#000000", alpha=0.05, linewidth=0)
        each.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("round (1: the federation meets and is profiled before it)")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=DPI)
