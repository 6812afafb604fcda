"""Which classes each cluster's clients hold, as bars."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from feddag_flwr.report.drawing import COLOURS, Drawing, picture
from feddag_flwr.report.reading import RunRecord
from feddag_flwr.report.shown import counted, short

MOST_CLUSTERS, MOST_LABELS, COLUMNS = 24, 30, 4


def class_picture(run: RunRecord) -> Drawing | None:
    """Draw training samples by class, a panel a cluster, as the clustering has seen them."""
    found = run.matrices
    places = run.first_assignments or run.assignments
    if found is None or found.counts is None or not found.counts.size or not places:
        return None
    clusters = np.array([places.get(name, -1) for name in found.clients])
    members = {z: np.flatnonzero(clusters == z) for z in sorted(set(clusters.tolist()) - {-1})}
    if not members:
        return None
    largest = sorted(members, key=lambda z: (-len(members[z]), z))[:MOST_CLUSTERS]
    shown = sorted(largest)
    classes = found.counts.shape[1]
    names = run.class_names if len(run.class_names) == classes else list(map(str, range(classes)))
    labels = [short(name, 12) for name in names]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    turned = classes > 10 or max(map(len, labels)) > 2
    figure = Figure(figsize=(2.4 * columns, (1.9 if turned else 1.6) * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, cluster in zip(grid.flat, shown, strict=False):
        axes.bar(range(classes), found.counts[members[cluster]].sum(axis=0), color=COLOURS[0])
        axes.set_title(f"cluster {cluster}: {counted(len(members[cluster]), 'client')}", loc="left")
        axes.tick_params(labelsize=7)
        ticks = range(classes) if classes <= MOST_LABELS else []
        axes.set_xticks(ticks, labels if ticks else [], rotation=90 if turned else 0)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    figure.supylabel("training samples", fontsize=8)
    words = f"Training samples by class, {classes:,} in all"
    if len(shown) < len(members):
        words += f"; of {len(members):,} clusters the {len(shown)} largest"
    return picture(figure, "classes", "Classes by cluster", f"{words}.")
