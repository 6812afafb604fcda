"""Clients and clusters as tables, and what is odd about some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from feddag_flwr.report.json_values import items, mapping, number, texts, whole
from feddag_flwr.report.left_out import left_out_in_words
from feddag_flwr.report.reading import RunRecord, by_metric, samples_of
from feddag_flwr.report.shown import NONE, REMARK, SENTENCE, ShownMetric, counted, listed, short
from feddag_flwr.report.table import Cell, ReportTable, count_cell

# Rows that a browser still sorts at once, and that leave the page small.
MOST_ROWS = 2000
MOST_SENTENCES = 200
MOST_TEACHERS = 40
MODELS = {"clustered": "this run", "one-model": "one model", "alone": "alone"}
BEST = {**MODELS, "no-difference": "no difference"}


def cluster_table(run: RunRecord) -> ReportTable | None:
    """Return a row a cluster: members, samples, teachers, metrics; None of a run without end."""
    rows = [mapping(row) for row in items((run.summary or {}).get("clusters"))]
    if not rows:
        return None
    columns = ["cluster", "clients", "training samples", "learns from", "members"]
    kinds = [True, True, True, False, False] + [True] * len(run.metrics)
    cells = [
        [
            count_cell(whole(row.get("cluster"))),
            count_cell(len(texts(row.get("members")))),
            count_cell(whole(row.get("train-samples"))),
            Cell(_several(items(row.get("teachers")))),
            Cell(listed(list(texts(row.get("members"))))),
            *map(figure_cell, run.metrics, by_metric(run, row)),
        ]
        for row in rows[:MOST_ROWS]
    ]
    columns += [metric.title for metric in run.metrics]
    return ReportTable("clusters", "Clusters at the end", columns, kinds, cells)


def teacher_rows(run: RunRecord) -> list[list[bool]]:
    """Return who learns from whom, rows learn from columns; empty where nobody does or too many."""
    teachers = run.teachers
    if not teachers or len(teachers) > MOST_TEACHERS:
        return []
    return [[column in row for column in range(len(teachers))] for row in teachers]


def client_table(run: RunRecord) -> ReportTable | None:
    """Return a row a client, the worst ones first where not all fit; None where nobody is known."""
    names = _names(run)
    if not names:
        return None
    headline, assignments, samples = run.headline, run.assignments, samples_of(run)
    compared = mapping(mapping((run.summary or {}).get("comparison")))
    metric = _compared_metric(run, compared)
    models = [model for model in MODELS if model in mapping(compared.get("mean"))]
    columns = ["client", "cluster", "training samples", "test samples", headline.title, "in round"]
    kinds = [False, True, True, True, True, True]
    if models:
        columns += [f"{metric.title}: {MODELS[model]}" for model in models]
        columns += [f"gain over {MODELS[model]}" for model in models[1:]] + ["best"]
        kinds += [True] * (2 * len(models) - 1) + [False]
    columns += ["moved", "rounds drifted", "replies failed", "judged harmful"]
    columns += ["rounds in quarantine", "remarks"]
    kinds += [True, True, True, True, True, False]
    remarks = _remarks(run)
    counts = _profiled(run)
    rows = []
    for name in _worst_first(run, names)[:MOST_ROWS]:
        of = mapping(run.tally.figures.get(name))
        trained, tested = samples.get(name, (None, None))
        trained = counts.get(name) if trained is None else trained
        tested = whole(int(of["samples"])) if tested is None and "samples" in of else tested
        row = [Cell(short(name)), count_cell(assignments.get(name)), count_cell(trained)]
        row += [count_cell(tested), figure_cell(headline, number(of.get(headline.name)))]
        row.append(count_cell(run.tally.judged_in.get(name)))
        if models:
            row += _comparison_cells(mapping(mapping(compared.get("clients")).get(name)),
                                     metric, models)  # fmt: skip
        moves = max(0, run.tally.placings[name] - 1)
        row += [count_cell(moves), count_cell(run.tally.drifted[name])]
        row += [count_cell(run.tally.failed[name]), count_cell(run.tally.harmful[name])]
        row.append(count_cell(run.tally.quarantined[name]))
        row.append(Cell(short("; ".join(remarks.get(name, [])), REMARK)))
        rows.append(row)
    notes = []
    if len(names) > MOST_ROWS:
        notes.append(f"Of {len(names):,} clients the {MOST_ROWS:,} worst ones are listed.")
    return ReportTable(
        "clients", "Clients", columns, kinds, rows, "Search clients, clusters and remarks", notes
    )


def figure_cell(metric: ShownMetric, value: float | None) -> Cell:
    """Return a cell with a value of a metric."""
    return Cell(metric.text(value), value)


def sentences(run: RunRecord) -> list[str]:
    """Say who is odd, drifted, in quarantine or without cluster, and what was left out and why."""
    said = list(_sentences(run))
    if len(said) > MOST_SENTENCES:
        more = len(said) - MOST_SENTENCES
        said = [*said[:MOST_SENTENCES], f"{more:,} more: see clustering.json and summary.json"]
    return [short(each, SENTENCE) for each in said]


def _sentences(run: RunRecord) -> Iterator[str]:
    summary = run.summary or {}
    for name, what in mapping(run.clustering.get("odd-clients")).items():
        yield f"odd: client {short(name)}: {what}"
    if alone := texts(summary.get("without-cluster")):
        yield f"without a cluster: {listed(list(alone), 20)}"
    for name, placed in mapping(summary.get("unlabelled")).items():
        sure, cluster = number(mapping(placed).get("sure")), mapping(placed).get("cluster")
        told = "" if sure is None else f", {100 * sure:.0f} % sure"
        yield f"without labels: client {short(name)}: cluster {cluster}{told}"
    last = run.rounds[-1] if run.rounds else None
    if last and last.drifted:
        yield f"drifted, and not placed anew: {listed(list(last.drifted), 20)}"
    if last and last.quarantined:
        yield f"in quarantine at the end: {listed(list(last.quarantined), 20)}"
    if run.tally.failed:
        often = [f"{short(n)} ({counted(c, 'round')})" for n, c in run.tally.failed.most_common()]
        yield f"replies that failed, by client: {listed(often, 20)}"
    yield from left_out_in_words(mapping(summary.get("left-out")))
    if missing := texts(mapping(summary.get("comparison")).get("not-compared")):
        yield f"not compared: {listed(list(missing), 20)}"


def _several(values: list[Any]) -> str:
    return (
        ", ".join(map(str, values[:MOST_TEACHERS])) + (", …" if len(values) > MOST_TEACHERS else "")
        or "-"
    )


def _names(run: RunRecord) -> list[str]:
    found = {*run.assignments, *run.tally.figures, *run.tally.failed, *samples_of(run)}
    found |= set(texts((run.summary or {}).get("without-cluster")))
    found |= mapping((run.summary or {}).get("unlabelled")).keys()
    return sorted(found)


def _worst_first(run: RunRecord, names: list[str]) -> list[str]:
    """Sort clients by name; of more than fit, those without a figure and the worst come first."""
    if len(names) <= MOST_ROWS:
        return names
    sign, headline = (1 if run.headline.higher_is_better else -1), run.headline.name
    figures = {name: number(mapping(run.tally.figures.get(name)).get(headline)) for name in names}

    def rank(name: str) -> tuple[bool, float, str]:
        value = figures[name]
        return (value is not None, 0.0 if value is None else sign * value, name)

    return sorted(names, key=rank)


def _compared_metric(run: RunRecord, compared: Mapping[str, Any]) -> ShownMetric:
    known = {metric.name: metric for metric in run.metrics}
    return known.get(str(compared.get("metric")), run.headline)


def _comparison_cells(
    of: Mapping[str, Any], metric: ShownMetric, models: list[str]
) -> Iterator[Cell]:
    """Yield a client's figures by model, its gains over the others, and the best one."""
    figures = [number(of.get(model)) for model in models]
    yield from (figure_cell(metric, figure) for figure in figures)
    sign = 1 if metric.higher_is_better else -1
    for other in figures[1:]:
        known = figures[0] is not None and other is not None
        gain = sign * ((figures[0] or 0.0) - (other or 0.0)) if known else None
        yield Cell(metric.difference(gain), gain)
    yield Cell(BEST.get(str(of.get("best")), NONE))


def _profiled(run: RunRecord) -> dict[str, int]:
    """Return the training samples that clients told in their profiles."""
    found = run.matrices
    if found is None or found.counts is None:
        return {}
    sums = found.counts.sum(axis=1)
    return {name: int(count) for name, count in zip(found.clients, sums, strict=True)}


def _remarks(run: RunRecord) -> dict[str, list[str]]:
    """Return what there is to say of single clients, by name."""
    said: dict[str, list[str]] = {}
    summary = run.summary or {}
    for name in mapping(mapping(summary.get("held-out")).get("placements")):
        said.setdefault(name, []).append("held out of training")
    for name in mapping(summary.get("unlabelled")):
        said.setdefault(name, []).append("without labels")
    for name in texts(summary.get("without-cluster")):
        said.setdefault(name, []).append("without a cluster")
    last = run.rounds[-1] if run.rounds else None
    for name in last.drifted if last else ():
        said.setdefault(name, []).append("drifted")
    for name in last.quarantined if last else ():
        said.setdefault(name, []).append("in quarantine")
    for name, what in mapping(run.clustering.get("odd-clients")).items():
        said.setdefault(name, []).append(f"odd: {what}")
    left_out = mapping(summary.get("left-out"))
    for each in map(mapping, items(left_out.get("clients"))):
        told = f"left out ({each.get('at')}): {each.get('reason')}"
        said.setdefault(str(each.get("client")), []).append(told)
    for name, count in mapping(left_out.get("files")).items():
        said.setdefault(name, []).append(f"files left out: {count}")
    return said
