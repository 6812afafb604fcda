"""The report's tables of accuracy: beside the published figures, and by fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from feddag_lab.experiments.comparison import reference_of
from feddag_lab.experiments.markdown import mean_of, mean_pm, plain, table
from feddag_lab.experiments.published import Published, title_of
from feddag_lab.experiments.results import Results

MEGABYTE = 1e6
# Parts of the clients, and the columns of their balanced accuracy before and after fine-tuning.
TUNING = {
    "clients kept out of training": ("unseen-balanced-accuracy", "unseen-tuned-balanced-accuracy"),
    "clients that took part in training": ("balanced-accuracy", "tuned-balanced-accuracy"),
}

PublishedByScenario = Mapping[str, Mapping[str, Published]]


def accuracy_section(
    results: Results,
    published: PublishedByScenario,
    unknown: Mapping[str, str],
    caption: str,
) -> list[str]:
    """Lay out one table a scenario, beside the published figures where there are any.

    Parameters
    ----------
    results : Results
    published : mapping of str to mapping
        By scenario, the published figures by algorithm.
    unknown : mapping of str to str
        By scenario, why the published figures that it names were not found.
    caption : str
        In what the settings differ from those of the published figures; empty where in nothing.
    """
    lines = [
        "## Accuracy",
        "",
        "Balanced accuracy in %, mean over clients (each counted once) after the last round, never "
        "the best one; mean ± standard deviation over seeds. MB are those of one client, both "
        "ways: of all messages, and of those that training needs (all but evaluation). ARI is the "
        "adjusted Rand index of clusters and true groups after the last round, *best ARI* that of "
        "the round in which it was largest, which only who knows the groups can choose.",
        "",
    ]
    lines += [f"**Beside the published figures:** {plain(caption)}", ""] if caption else []
    empty = []
    for name, scenario in results.suite.scenarios.items():
        if name in unknown:
            lines += [f"{plain(name)}: the suite names a wrong place: {plain(unknown[name])}.", ""]
        if results.rows(name).empty:
            empty.append(plain(name))
            continue
        title = plain(name)
        if scenario.published and name in published:
            title = f"{plain(title_of(scenario.published))}: {title}"
        lines += [f"### {title}", ""]
        if results.judges_unseen(name):
            lines += ["The main figure is that of clients **kept out of training**; those that "
                      "took part stand in the column *seen*. An algorithm without a model for "
                      "newcomers has no main figure.", ""]  # fmt: skip
        lines += _accuracy_table(results, name, published.get(name, {}))
    return [*lines, f"Without a finished trial: {'; '.join(empty)}.", ""] if empty else lines


def _accuracy_table(
    results: Results, scenario: str, published: Mapping[str, Published]
) -> list[str]:
    unseen, peak = results.judges_unseen(scenario), _changes(results.rows(scenario))
    rows = []
    for name in results.suite.algorithms:
        found = results.rows(scenario, name)
        main, figure = percent(found["main"]), published.get(name)
        row = {
            "algorithm": _name(results, name),
            "unseen" if unseen else "ours": mean_pm(main),
            "seeds": f"{len(main)} of {len(results.suite.seeds)}",
        }
        if published:
            row["published"] = f"{figure.mean:.2f} ± {figure.deviation:.2f}" if figure else "-"
        row["after fine-tuning"] = mean_pm(percent(found["main-tuned"]))
        if unseen:
            row["seen"] = mean_pm(percent(found["balanced-accuracy"]))
        row["ARI"] = mean_of(found["adjusted-rand-index"], 3)
        row["clusters"] = mean_of(found["clusters"], 1)
        if peak:
            row["best ARI"] = mean_of(found["best-rand-index"], 3)
            row["clusters then"] = mean_of(found["best-clusters"], 1)
        row["MB a client"] = mean_of(found["bytes-per-client"] / MEGABYTE, 2)
        row["of it training"] = mean_of(found["training-bytes-per-client"] / MEGABYTE, 2)
        row["seconds"] = mean_of(found["seconds"], 0)
        rows.append(row)
    return table(list(rows[0]), [list(row.values()) for row in rows])


def _changes(rows: pd.DataFrame) -> bool:
    """Whether some run was nearer the true groups in an earlier round than at its end."""
    known = rows[["best-rand-index", "adjusted-rand-index"]].dropna()
    return bool((known["best-rand-index"] > known["adjusted-rand-index"] + 1e-9).any())


def percent(shares: pd.Series) -> list[float]:
    """Return the shares that are known, in percent."""
    return [100 * share for share in shares.dropna()]


def _name(results: Results, algorithm: str) -> str:
    return f"**{plain(algorithm)}**" if algorithm == reference_of(results) else plain(algorithm)


def tuning_section(results: Results) -> list[str]:
    """Lay out accuracy before and after fine-tuning, seen and unseen clients apart."""
    lines: list[str] = []
    for scenario in results.suite.scenarios:
        for part, columns in TUNING.items():
            rows = []
            for name in results.suite.algorithms:
                # Over the seeds that have both.
                found = results.rows(scenario, name)[list(columns)].dropna()
                if found.empty:
                    continue
                before, after = (percent(found[column]) for column in columns)
                gains = [b - a for a, b in zip(before, after, strict=True)]
                seeds = f"{len(found)} of {len(results.suite.seeds)}"
                figures = map(mean_pm, (before, after, gains))
                rows.append([_name(results, name), *figures, seeds])
            if rows:
                header = ("algorithm", "before", "after", "gain", "seeds")
                lines += [f"### Fine-tuning: {plain(scenario)}, {part}", "", *table(header, rows)]
    if not lines:
        return []
    return [
        "## Before and after local fine-tuning",
        "",
        "*Before* is the figure of the tables above: the model as the algorithm gives it. *After* "
        "is the same model trained further by each client alone, on its own data "
        "(`personalisation-epochs`); no main figure and no difference contains it.",
        "",
        *lines,
    ]
