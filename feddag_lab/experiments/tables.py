"""The report of an experiment: Markdown, CSV files and figures in one folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from feddag_lab.experiments.accuracy_tables import (
    PublishedByScenario,
    accuracy_section,
    tuning_section,
)
from feddag_lab.experiments.agreement import in_full
from feddag_lab.experiments.comparison import compare_all
from feddag_lab.experiments.csv_files import write_csv_files
from feddag_lab.experiments.difference_tables import difference_section
from feddag_lab.experiments.markdown import plain
from feddag_lab.experiments.matrix_plots import plot_matrices
from feddag_lab.experiments.overview import overview
from feddag_lab.experiments.plots import plot_curves, plot_published, plot_rand_index
from feddag_lab.experiments.published import (
    Published,
    differing_settings,
    published_figures,
)
from feddag_lab.experiments.results import Results, read_results

RAND_INDEX = "rand-index.png"
MATRICES = "matrices.png"
PUBLISHED = "published.png"
SLUG_LENGTH = 100

logger = logging.getLogger(__name__)


def write_report(results: Path, output: Path | None = None) -> Path:
    """Write the report of an experiment; an older one in the same folder is replaced.

    Parameters
    ----------
    results : Path
        The experiment's folder, with ``suite.json`` and ``trials``.
    output : Path, optional
        Where the report goes, by default ``report`` in the experiment's folder.

    Returns
    -------
    Path
        ``report.md``; beside it ``results.csv``, ``differences.csv``, ``clients.csv`` and the
        figures.

    Raises
    ------
    DamagedResultsError
        ``suite.json`` is missing or malformed. A trial that cannot be used is listed in the
        report instead.
    """
    found = read_results(results)
    folder = output or results / "report"
    folder.mkdir(parents=True, exist_ok=True)
    differences = compare_all(found)
    write_csv_files(folder, found, differences)
    published, unknown = _published(found)
    caption = _beside_published(found, published)
    lines = [
        f"# {plain(found.suite.name)}",
        "",
        *overview(found),
        *accuracy_section(found, published, unknown, caption),
        *difference_section(found, differences),
        *tuning_section(found),
        *_figure_section(folder, found, published, caption),
    ]
    path = folder / "report.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _published(results: Results) -> tuple[dict[str, dict[str, Published]], dict[str, str]]:
    """Look up the published figures by scenario; those that are not there, with the reason."""
    published, unknown = {}, {}
    for name, scenario in results.suite.scenarios.items():
        if scenario.published is None:
            continue
        try:
            published[name] = published_figures(scenario.published)
        except KeyError as error:
            unknown[name] = str(error.args[0])
    return published, unknown


def _beside_published(results: Results, published: PublishedByScenario) -> str:
    """Say in what the runs that stand beside published figures differ from the paper's."""
    runs = [
        in_full(trial.settings)
        for scenario in published
        for name in results.suite.algorithms
        for trial in results.finished(scenario, name).values()
    ]
    differing = differing_settings(runs)
    if not differing:
        return ""
    return f"Not the paper's settings: {differing}. The levels are not comparable."


def _figure_section(
    folder: Path, results: Results, published: PublishedByScenario, caption: str
) -> list[str]:
    """Draw the figures into the folder; link those that could be drawn, name those that failed."""
    for pattern in ("curves-*.png", RAND_INDEX, MATRICES, PUBLISHED):
        for stale in folder.glob(pattern):
            stale.unlink()
    figures: list[tuple[str, str, Callable[[Path], bool]]] = [
        (
            f"Accuracy in the course of the run: {scenario}",
            f"curves-{number:02d}-{_slug(scenario)}.png",
            partial(plot_curves, results=results, scenario=scenario),
        )
        for number, scenario in enumerate(results.suite.scenarios, start=1)
    ]
    figures += [
        ("Adjusted Rand index of clusters and true groups", RAND_INDEX,
         partial(plot_rand_index, results=results)),
        ("Proximity matrices", MATRICES, partial(plot_matrices, results=results)),
        ("Published figures and ours", PUBLISHED,
         partial(plot_published, results=results, published=published, caption=caption)),
    ]  # fmt: skip
    lines = []
    for text, name, draw in figures:
        try:
            if draw(folder / name):
                lines.append(f"![{plain(text)}]({name})\n")
        except Exception as error:  # a figure that fails must not cost the tables
            logger.exception("figure %s", name)
            lines.append(
                f"Figure {plain(name)} failed: {plain(f'{type(error).__name__}: {error}')}\n"
            )
    return ["## Figures", "", *lines] if lines else []


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:SLUG_LENGTH]
