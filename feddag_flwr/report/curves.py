"""Curves over rounds: results, losses, bytes, seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from feddag_flwr.report.drawing import COLOURS, GREY, Drawing, canvas, line_style, picture
from feddag_flwr.report.reading import RunRecord
from feddag_flwr.report.shown import ShownMetric

SIZE = (4.6, 2.6)
# Of more clusters than can be told apart, lines are grey and bear no name.
TOLD_APART = 12
# Phases that are parts of another one, which they are taken from.
INSIDE = {"aggregate": "train", "judge": "train"}
LOSS = ShownMetric("loss", False, False)


def curves(run: RunRecord) -> list[Drawing]:
    """Draw what there is of a run's rounds."""
    drawn = (_results(run), _by_cluster(run), _losses(run), _bytes(run), _seconds(run))
    return [each for each in drawn if each is not None]


def _over_rounds(figure: Figure, axes: Axes, label: str, *, legend: bool = True) -> None:
    axes.set_xlabel("round")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.grid(color="#dddddd", linewidth=0.6)
    if legend:
        figure.legend(fontsize=7, frameon=False, ncols=3, loc="outside upper left")


def _scale(metric: ShownMetric) -> int:
    return 100 if metric.percent else 1


def _label(metric: ShownMetric) -> str:
    return f"{metric.title}, %" if metric.percent else metric.title


def _draw(
    axes: Axes, label: str, points: Sequence[tuple[int, float]], how: Mapping[str, Any]
) -> None:
    rounds, values = zip(*points, strict=True)
    marker = "o" if len(points) <= 40 else None
    usual: dict[str, Any] = {"linewidth": 1.6, "marker": marker, "markersize": 3}
    axes.plot(rounds, values, label=label, **usual | dict(how))


def _results(run: RunRecord) -> Drawing | None:
    """Draw mean and worst client of the headline metric."""
    metric, scale = run.headline, _scale(run.headline)
    name = metric.name
    lines = {
        "received by participants, mean": [
            (r.number, scale * r.received[name]) for r in run.rounds if name in r.received
        ],
        "all clients, mean": [
            (r.number, scale * r.overall[name]) for r in run.rounds if name in r.overall
        ],
        "worst client": [
            (r.number, scale * r.worst) for r in run.rounds if r.worst is not None
        ],
    }  # fmt: skip
    hows: tuple[dict[str, Any], ...] = (
        {"color": GREY, "linewidth": 0.9, "marker": None},
        {"color": COLOURS[0]},
        {"color": COLOURS[1], "linestyle": "--"},
    )
    if not any(lines.values()):
        return None
    figure, axes = canvas(*SIZE)
    for (title, points), how in zip(lines.items(), hows, strict=True):
        if points:
            _draw(axes, title, points, how)
    _over_rounds(figure, axes, _label(metric))
    ends = [f"{title} {points[-1][1]:.4g}" for title, points in lines.items() if points]
    return picture(figure, "results", f"{metric.title} over rounds", f"Last: {'; '.join(ends)}.")


def _by_cluster(run: RunRecord) -> Drawing | None:
    """Draw the headline metric of each cluster, from evaluations of all where there are any."""
    metric, scale = run.headline, _scale(run.headline)
    judged = [r for r in run.rounds if r.overall] or run.rounds
    lines: dict[str, list[tuple[int, float]]] = {}
    for each in judged:
        for cluster, figures in each.by_cluster.items():
            if metric.name in figures:
                points = lines.setdefault(cluster, [])
                points.append((each.number, scale * figures[metric.name]))
    if len(lines) < 2:
        return None
    figure, axes = canvas(*SIZE)
    few = len(lines) <= TOLD_APART
    ordered = sorted(lines, key=lambda name: (len(name), name))
    for index, cluster in enumerate(ordered):
        how = line_style(index) if few else {
            "color": GREY, "alpha": 0.5, "marker": None, "rasterized": True,
        }  # fmt: skip
        _draw(axes, cluster, lines[cluster], how)
    _over_rounds(figure, axes, _label(metric), legend=False)
    if few:
        figure.legend(
            title="cluster", fontsize=7, title_fontsize=7, frameon=False, ncols=TOLD_APART // 2,
            loc="outside upper left",
        )  # fmt: skip
    words = f"{len(lines)} clusters" + ("." if few else ", too many to name.")
    return picture(figure, "by-cluster", f"{metric.title} by cluster", words)


def _losses(run: RunRecord) -> Drawing | None:
    """Draw losses on test data, and on what clients hold back where it was looked at."""
    lines = {
        "test data, all clients": [
            (r.number, r.overall["loss"]) for r in run.rounds if "loss" in r.overall
        ],
        "test data, model received": [
            (r.number, r.received["loss"]) for r in run.rounds if "loss" in r.received
        ],
        "held-back data": [
            (r.number, r.held_back["loss"]) for r in run.rounds if "loss" in r.held_back
        ],
    }  # fmt: skip
    if not any(lines.values()):
        return None
    figure, axes = canvas(*SIZE)
    for index, (title, points) in enumerate(lines.items()):
        if points:
            dashes = ("-", "-", "--")[index]
            how = {"color": (COLOURS[0], GREY, COLOURS[2])[index], "linestyle": dashes}
            _draw(axes, title, points, how)
    _over_rounds(figure, axes, "loss, nats")
    ends = [f"{title} {points[-1][1]:.4g}" for title, points in lines.items() if points]
    words = f"Last: {'; '.join(ends)}. Losses of training are not recorded."
    return picture(figure, "losses", "Loss over rounds", words)


def _bytes(run: RunRecord) -> Drawing | None:
    """Draw the bytes of all messages so far, down and up."""
    if not any(r.down or r.up for r in run.rounds):
        return None
    rounds = [r.number for r in run.rounds]
    down, up = (
        np.cumsum([getattr(r, way) for r in run.rounds]) / 1e6 for way in ("down", "up")
    )  # fmt: skip
    figure, axes = canvas(*SIZE)
    axes.plot(rounds, down, color=COLOURS[0], label="to clients")
    axes.plot(rounds, up, color=COLOURS[1], linestyle="--", label="from clients")
    _over_rounds(figure, axes, "megabytes so far")
    axes.set_ylim(bottom=0)
    words = f"In all {down[-1]:,.1f} MB to clients and {up[-1]:,.1f} MB from them."
    return picture(figure, "bytes", "Bytes so far", words)


def phases(run: RunRecord) -> dict[str, dict[int, float]]:
    """Return the seconds of each phase by round, phases inside others taken out of these."""
    found: dict[str, dict[int, float]] = {}
    for server_round, times in run.seconds.items():
        left = dict(times)
        for inner, outer in INSIDE.items():
            if inner in left and outer in left:
                left[outer] = max(0.0, left[outer] - left[inner])
        for phase, seconds in left.items():
            found.setdefault(phase, {})[server_round] = seconds
    return {phase: of for phase, of in found.items() if any(of.values())}


def _seconds(run: RunRecord) -> Drawing | None:
    """Draw the seconds of the rounds, stacked by phase."""
    by_phase = phases(run)
    if not by_phase:
        return None
    rounds = sorted(run.seconds)
    largest = sorted(by_phase, key=lambda phase: (-sum(by_phase[phase].values()), phase))
    kept, rest = largest[: len(COLOURS) - 1], largest[len(COLOURS) - 1 :]
    rows = {phase: [by_phase[phase].get(n, 0.0) for n in rounds] for phase in kept}
    if rest:
        rows["others"] = [sum(by_phase[phase].get(n, 0.0) for phase in rest) for n in rounds]
    figure, axes = canvas(*SIZE)
    bottom = np.zeros(len(rounds))
    for index, (phase, values) in enumerate(rows.items()):
        axes.fill_between(rounds, bottom, bottom + values, step="mid", label=phase, linewidth=0,
                          color=COLOURS[index])  # fmt: skip
        bottom = bottom + values
    if len(rounds) == 1:  # a step needs a width
        axes.set_xlim(rounds[0] - 1, rounds[0] + 1)
        axes.bar(rounds, bottom, width=0.5, color=GREY)
    _over_rounds(figure, axes, "seconds")
    totals = ", ".join(f"{phase} {sum(values):,.1f}" for phase, values in rows.items())
    return picture(figure, "seconds", "Seconds by phase", f"Of all rounds: {totals}.")
