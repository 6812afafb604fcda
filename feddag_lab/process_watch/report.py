"""Tables and the figure of what processes took, round by round."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from feddag_lab.process_watch.trend import TOTAL, ByRound, Taken, Trend

DPI = 150
TOTAL_COLOUR = "#222222"
# Okabe and Ito's colours: told apart by all common kinds of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#595959")


def write_rounds(rounds: ByRound, path: Path) -> None:
    """Write what each role took in each round as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["role", "round", *(field.name for field in fields(Taken))])
        for role, values in rounds.items():
            for number, taken in values.items():
                writer.writerow([role, number, *(round(value, 2) for value in astuple(taken))])


def tabulate(trends: Iterable[Trend], title: str) -> Table:
    """Tabulate trends, each with its verdict."""
    table = Table(title=title)
    table.add_column("processes")
    table.add_column("of their")
    for column in ("level", "a round", "95 % interval", "of the level"):
        table.add_column(column, justify="right")
    table.add_column("flat")
    role = None
    for trend in trends:
        if role not in (None, trend.role):
            table.add_section()
        table.add_row(
            trend.role if trend.role != role else "",
            trend.quantity,
            f"{trend.level:,.0f}",
            f"{trend.slope:+.3f}",
            f"{trend.low:+.3f} to {trend.high:+.3f}",
            f"{trend.share:+.3%}",
            "yes" if trend.flat else "NO",
        )
        role = trend.role
    return table


def plot(rounds: ByRound, window: tuple[int, int], title: str, path: Path) -> None:
    """Draw memory, handles and processes of every role against rounds.

    Parameters
    ----------
    rounds : mapping
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
    roles = [role for role in rounds if role != TOTAL]
    for each, label, of in zip(
        axes,
        ("resident memory, MB", "open file handles", "processes"),
        (lambda t: t.rss_mb, lambda t: t.handles, lambda t: t.processes),
        strict=True,
    ):
        _draw(each, rounds, roles, of)
        each.set_ylabel(label)
        each.set_ylim(bottom=0)
        each.axvspan(each.get_xlim()[0], window[0], color="#000000", alpha=0.05, linewidth=0)
        each.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("round (1: the federation meets and is profiled before it)")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=DPI)


def _draw(axes: Axes, rounds: ByRound, roles: Sequence[str], of: Callable[[Taken], float]) -> None:
    for index, role in enumerate(roles):
        values = rounds[role]
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(list(values), [of(each) for each in values.values()], color=colour, label=role)
    total = rounds[TOTAL]
    axes.plot(
        list(total), [of(each) for each in total.values()], color=TOTAL_COLOUR, linewidth=2.2,
        label=TOTAL,
    )  # fmt: skip
