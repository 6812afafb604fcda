"""The table at the end of a run, and ``summary.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from feddag_flwr.metrics import Metric
from feddag_flwr.observers import Observer, RunOver, RunStarted, metric_title
from feddag_flwr.report.left_out import left_out_in_words
from feddag_flwr.run_folder import SUMMARY

TABLE_WIDTH = 100


class ClosingTable(Observer):
    """Writes ``summary.json`` and prints what came of a run."""

    def run_started(self, event: RunStarted) -> None:
        """Remember the folder."""
        self._folder, self._metrics = event.folder, event.metrics

    def run_over(self, event: RunOver) -> None:
        """Write and print."""
        self._folder.try_to_write_json(SUMMARY, event.summary)
        print_closing_table(event.summary, self._folder.path, self._metrics)


def _shown(value: float | None, metric: Metric) -> str:
    if value is None:
        return "n/a"
    return f"{100 * value:.2f} %" if metric.percent else f"{value:.4g}"


def print_closing_table(
    summary: Mapping[str, Any], folder: Path, metrics: Sequence[Metric]
) -> None:
    """Print the closing table, a column a metric, and where the files are."""
    table = Table(title=f"After round {summary['rounds']}", title_justify="left")
    for column in ("cluster", "members", "samples", "teachers", *map(metric_title, metrics)):
        table.add_column(column, justify="left" if column == "teachers" else "right")
    for row in summary["clusters"]:
        table.add_row(
            str(row["cluster"]),
            str(len(row["members"])),
            str(row["train-samples"]),
            ", ".join(map(str, row["teachers"])) or "-",
            *(_shown(row.get(metric.name), metric) for metric in metrics),
        )
    overall = summary["overall"]
    table.add_section()
    table.add_row(
        "all",
        str(overall["clients"]),
        str(sum(row["train-samples"] for row in summary["clusters"])),
        "",
        *(_shown(overall.get(metric.name), metric) for metric in metrics),
    )
    console = Console(width=TABLE_WIDTH, no_color=True, markup=False, highlight=False)
    console.print(table)
    index = summary["adjusted-rand-index"]
    if index is not None:
        console.print(f"adjusted Rand index against the true groups: {index:.3f}")
    if summary["without-cluster"]:
        console.print(f"clients without a cluster: {', '.join(summary['without-cluster'])}")
    for name, placed in summary.get("unlabelled", {}).items():
        sure = f"cluster {placed['cluster']}, {100 * placed['sure']:.0f} % sure"
        console.print(f"client {name}, unlabelled: {sure}; accuracy n/a")
    if "held-out" in summary:
        figure = _shown(summary["held-out"].get(metrics[0].name), metrics[0])
        console.print(f"clients unseen in training: {summary['held-out']['clients']}, {figure}")
    if "comparison" in summary:
        _print_comparison(console, summary["comparison"], metrics[0])
    if "privacy" in summary:
        console.print(summary["privacy"]["promise"], soft_wrap=True)
    for line in left_out_in_words(summary.get("left-out", {})):
        console.print(line, soft_wrap=True)
    times = summary["overhead"]
    least = "" if times is None else f" ({times:.2f} times the least)"
    console.print(f"bytes a client, both ways: {summary['bytes-sent-per-client']:,}{least}")
    console.print(f"run folder: {folder}", soft_wrap=True)


def _print_comparison(console: Console, comparison: Mapping[str, Any], metric: Metric) -> None:
    """Print what the run's models gained over one for all and over each client's own."""
    tenths, worst = comparison["10th-percentile"], comparison["worst-client"]
    table = Table(title=f"{metric_title(metric)} of a client, by model", title_justify="left")
    for column in ("model", "mean", "10th percentile", "worst client"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model, mean in comparison["mean"].items():
        last = worst[model]
        least = f"{last['client']} {_shown(last['figure'], metric)}" if last else "n/a"
        table.add_row(model, _shown(mean, metric), _shown(tenths[model], metric), least)
    console.print(table)
    for line in filter(None, (comparison["gain"], comparison["sentence"])):
        console.print(line, soft_wrap=True)
    console.print(f"bytes a client for this, besides: {comparison['bytes-sent-per-client']:,}")
