"""The report's tables of accuracy: beside the published figures, and by fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from feddag_lab.experiments.comparison import reference_of
from feddag_lab.experiments.markdown import mean_of, mean_pm, plain, table
from feddag_lab.experiments.published import Published, title_of
from feddag_lab.experiments.results import Results, Run, Scores, mean_balanced_accuracy

MEGABYTE = 1e6

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
        if not any(results.runs(name, algorithm) for algorithm in results.suite.algorithms):
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
    return [*lines, f"Without a finished cell: {'; '.join(empty)}.", ""] if empty else lines


def _accuracy_table(
    results: Results, scenario: str, published: Mapping[str, Published]
) -> list[str]:
    unseen = results.judges_unseen(scenario)
    header = ["algorithm", "unseen" if unseen else "ours", "seeds"]
    header += ["published"] * bool(published) + ["after fine-tuning"] + ["seen"] * unseen
    peak = _changes(results, scenario)
    header += ["ARI", "clusters", *["best ARI", "clusters then"] * peak]
    header += ["MB a client", "of it training", "seconds"]
    rows = []
    for name in results.suite.algorithms:
        runs = results.runs(scenario, name)
        found = list(runs.values())
        seconds = [cell.record.seconds for seed in runs
                   if (cell := results.cells[scenario, name, seed]).record]  # fmt: skip
        main = _percent(found, lambda run: run.judged)
        row = [_name(results, name), mean_pm(main), f"{len(main)} of {len(results.suite.seeds)}"]
        if published:
            figure = published.get(name)
            row.append(f"{figure.mean:.2f} ± {figure.deviation:.2f}" if figure else "-")
        row.append(mean_pm(_percent(found, lambda run: run.judged_tuned)))
        if unseen:
            row.append(mean_pm(_percent(found, lambda run: run.seen)))
        row += [
            mean_of([run.rand_index for run in found], 3),
            mean_of([run.num_clusters for run in found], 1),
            *[
                mean_of([run.best.rand_index for run in found if run.best], 3),
                mean_of([run.best.num_clusters for run in found if run.best], 1),
            ]
            * peak,
            mean_of([run.total_bytes / MEGABYTE for run in found], 2),
            mean_of([run.training_bytes / MEGABYTE for run in found], 2),
            mean_of(seconds, 0),
        ]
        rows.append(row)
    return table(header, rows)


def _changes(results: Results, scenario: str) -> bool:
    """Whether some run was nearer the true groups in an earlier round than at its end."""
    runs = (run for name in results.suite.algorithms
            for run in results.runs(scenario, name).values())  # fmt: skip
    return any(
        run.best and run.rand_index is not None and run.best.rand_index > run.rand_index + 1e-9
        for run in runs
    )


def _percent(runs: Sequence[Run], scores: Callable[[Run], Scores | None]) -> list[float]:
    """Mean over clients in percent, a value for each run that has these figures."""
    found = [scores(run) for run in runs]
    return [100 * mean_balanced_accuracy(each) for each in found if each is not None]


def _name(results: Results, algorithm: str) -> str:
    return f"**{plain(algorithm)}**" if algorithm == reference_of(results) else plain(algorithm)


def tuning_section(results: Results) -> list[str]:
    """Lay out accuracy before and after fine-tuning, seen and unseen clients apart."""
    lines: list[str] = []
    for scenario in results.suite.scenarios:
        for part, before, after in (
            ("clients kept out of training", _unseen, _unseen_tuned),
            ("clients that took part in training", _seen, _tuned),
        ):
            rows = [
                row
                for name in results.suite.algorithms
                if (row := _tuning_row(results, scenario, name, before, after))
            ]
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
        "(`fine-tune-epochs`); no main figure and no difference contains it.",
        "",
        *lines,
    ]


def _tuning_row(
    results: Results,
    scenario: str,
    algorithm: str,
    before: Callable[[Run], Scores | None],
    after: Callable[[Run], Scores | None],
) -> list[str] | None:
    """Before, after and gain over the seeds that have both; None when none has."""
    runs = [
        run
        for run in results.runs(scenario, algorithm).values()
        if before(run) is not None and after(run) is not None
    ]
    if not runs:
        return None
    first, then = _percent(runs, before), _percent(runs, after)
    gains = [b - a for a, b in zip(first, then, strict=True)]
    seeds = f"{len(runs)} of {len(results.suite.seeds)}"
    return [_name(results, algorithm), mean_pm(first), mean_pm(then), mean_pm(gains), seeds]


def _seen(run: Run) -> Scores | None:
    return run.seen


def _tuned(run: Run) -> Scores | None:
    return run.tuned


def _unseen(run: Run) -> Scores | None:
    return run.unseen


def _unseen_tuned(run: Run) -> Scores | None:
    return run.unseen_tuned
