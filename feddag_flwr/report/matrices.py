"""The proximity matrices in the order of the dendrogram, and the sweep over thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from feddag_flwr.report.drawing import COLOURS, GREY, Drawing, canvas, picture
from feddag_flwr.report.json_values import items, mapping, number, numbers, whole
from feddag_flwr.report.reading import RunRecord
from feddag_flwr.report.shown import short

# Cells a side at which a matrix is drawn: of more clients each cell is a mean over some.
MOST_CELLS = 200
# Most lines of the tree of tests, and clients whose names stand beside a matrix.
MOST_TESTS, MOST_NAMES = 60, 30
TITLES = {
    "fused": "fused dissimilarity A",
    "data": "data dissimilarity V",
    "gradient": "gradient dissimilarity G",
    "fusion-weights": "fusion weights",
    "principal-angle": "principal angles",
}
# The matrix that clients are clustered by comes first.
ORDER = ("fused", "principal-angle", "data", "gradient", "fusion-weights")
Method = Literal["average", "complete", "single"]


@dataclass(frozen=True)
class Dendrogram:
    """The tree of the clustering: leaves from left to right, and lines (x, y) of its merges."""

    leaves: NDArray[np.intp]
    lines: list[list[tuple[float, float]]]


def dendrogram(matrix: NDArray[np.float64], method: Method) -> Dendrogram | None:
    """Cluster clients as the run did; None where the matrix cannot be clustered.

    Merges are walked through in their order: a tree of a thousand clients may be a thousand deep.
    """
    count = len(matrix)
    if count < 2 or not np.isfinite(matrix).all():
        return None
    symmetric = (matrix + matrix.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    merges = linkage(squareform(symmetric, checks=False), method)
    leaves = leaves_list(merges).astype(np.intp)
    x = np.empty(2 * count - 1)
    y = np.zeros(2 * count - 1)
    x[leaves] = np.arange(count)
    lines = []
    for index, (left, right, height, _) in enumerate(merges):
        a, b, node = int(left), int(right), count + index
        x[node], y[node] = (x[a] + x[b]) / 2, height
        corners = [(x[a], y[a]), (x[a], height), (x[b], height), (x[b], y[b])]
        lines.append([(round(float(i), 2), round(float(j), 4)) for i, j in corners])
    return Dendrogram(leaves, lines)


def coarse(matrix: NDArray[np.float64], most: int = MOST_CELLS) -> NDArray[np.float64]:
    """Shrink a matrix to `most` rows and columns at most: means over blocks that fill it."""
    if len(matrix) <= most:
        return matrix
    edges = np.linspace(0, len(matrix), most + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(matrix, edges, axis=0), edges, axis=1)
    sizes = np.diff([*edges, len(matrix)])
    return np.asarray(sums / np.outer(sizes, sizes), float)


def matrix_pictures(run: RunRecord) -> list[Drawing]:
    """Draw each proximity matrix that the run has left, the one clustered by with its tree."""
    found = run.matrices
    if found is None or not found.by_name or not found.clients:
        return []
    places = run.first_assignments or run.assignments
    clusters = np.array([places.get(name, -1) for name in found.clients])
    method = run.settings.get("linkage")
    tree = None
    if "fused" in found.by_name:
        known = cast(Method, method) if method in get_args(Method) else "average"
        tree = dendrogram(found.by_name["fused"], known)
    order = np.argsort(clusters, kind="stable") if tree is None else tree.leaves
    names = [short(found.clients[row], 20) for row in order]
    pictures = []
    for key in (name for name in ORDER if name in found.by_name):
        matrix = found.by_name[key][np.ix_(order, order)]
        threshold = number(run.clustering.get("threshold"))
        above = tree if key == "fused" else None
        pictures.append(_matrix(key, matrix, clusters[order], names, above, threshold))
    return pictures


def _matrix(
    key: str,
    matrix: NDArray[np.float64],
    clusters: NDArray[np.intp],
    names: list[str],
    tree: Dendrogram | None,
    threshold: float | None,
) -> Drawing:
    figure = Figure(figsize=(4.6, 4.2 if tree is None else 5.4), layout="constrained")
    below = figure
    if tree is not None:
        grid = figure.add_gridspec(2, 1, height_ratios=(1, 3.4))
        _tree(figure.add_subplot(grid[0]), tree, len(matrix), threshold)
        axes = figure.add_subplot(grid[1])
    else:
        axes = below.subplots()
    count = len(matrix)
    image = axes.imshow(
        np.round(coarse(matrix), 3), cmap="cividis", interpolation="none", vmin=0.0,
        vmax=max(1.0, float(np.nanmax(matrix, initial=0.0))),
        extent=(-0.5, count - 0.5, count - 0.5, -0.5), aspect="auto",
    )  # fmt: skip
    borders = np.flatnonzero(np.diff(clusters)) + 1
    if len(borders) <= MOST_CELLS // 4:
        for border in borders - 0.5:
            axes.axhline(border, color="white", linewidth=0.7)
            axes.axvline(border, color="white", linewidth=0.7)
        starts = np.array([0, *borders, count])
        middles = (starts[:-1] + starts[1:] - 1) / 2
        labels = [str(clusters[start]) if clusters[start] >= 0 else "-" for start in starts[:-1]]
        axes.set_xticks(middles, labels, fontsize=7)
    axes.set_xlabel("cluster")
    axes.set_yticks(range(count) if count <= MOST_NAMES else [],
                    names if count <= MOST_NAMES else [], fontsize=6)  # fmt: skip
    figure.colorbar(image, ax=axes, fraction=0.05)
    words = f"{count:,} clients in the order of clusters; dark is alike."
    if count > MOST_CELLS:
        words += f" Each cell is the mean over about {count / MOST_CELLS:.3g} clients a side."
    if key == "fusion-weights":
        words = f"{count:,} clients in the order of clusters; the share of V in A."
    return picture(figure, f"matrix-{key}", TITLES[key], words)


def _tree(axes: Any, tree: Dendrogram, count: int, threshold: float | None) -> None:  # noqa: ANN401
    lines = LineCollection(tree.lines, colors="#000000", linewidths=0.7)
    lines.set_rasterized(count > MOST_CELLS)  # as lines, a thousand clients' tree is large
    axes.add_collection(lines)
    axes.set_xlim(-0.5, count - 0.5)
    tallest = max((y for line in tree.lines for _, y in line), default=0.0)
    axes.set_ylim(0.0, 1.05 * max(tallest, threshold or 0.0, 1e-6))
    axes.set_xticks([])
    axes.set_ylabel("height")
    if threshold is not None:
        axes.axhline(threshold, color=COLOURS[1], linestyle="--", linewidth=1.2)
        axes.set_title(f"dendrogram; cut at {threshold:.3g}", loc="left")


def sweep_picture(run: RunRecord) -> Drawing | None:
    """Draw clusters and loss at the thresholds that were tried, the chosen one marked."""
    rows = [numbers(row) for row in items(run.clustering.get("sweep"))]
    rows = [row for row in rows if {"threshold", "num-clusters"} <= row.keys()]
    if not rows:
        return None
    figure, axes = canvas(4.6, 2.8)
    thresholds = [row["threshold"] for row in rows]
    marker = "o" if len(rows) <= 40 else None
    [many] = axes.step(thresholds, [row["num-clusters"] for row in rows], where="post",
                       color=COLOURS[0], marker=marker, markersize=3)  # fmt: skip
    axes.set_xlabel("threshold")
    axes.set_ylabel("clusters")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    drawn, titles = [many], ["clusters"]
    losses = [(row["threshold"], row["loss"]) for row in rows if "loss" in row]
    if losses:
        other = axes.twinx()
        [line] = other.plot(*zip(*losses, strict=True), color=COLOURS[1], linestyle="--",
                            marker=marker, markersize=3)  # fmt: skip
        other.set_ylabel("loss (Eq. 9)")
        other.spines["right"].set_visible(True)
        drawn, titles = [many, line], ["clusters", "loss"]
    chosen, words = number(run.clustering.get("threshold")), f"{len(rows):,} thresholds tried."
    if chosen is not None:
        drawn.append(axes.axvline(chosen, color=GREY, linewidth=1.2, linestyle=":"))
        titles.append("chosen")
        count = whole(run.clustering.get("num-clusters"))
        words += f" Chosen: {chosen:.3g}, {'n/a' if count is None else count} clusters."
    figure.legend(drawn, titles, fontsize=7, frameon=False, ncols=3, loc="outside upper left")
    return picture(figure, "sweep", "Threshold sweep", words)


def tests_in_words(run: RunRecord) -> list[tuple[int, str]]:
    """Say what parted the clients, a line a group, each with its depth in the tree of tests."""
    lines: list[tuple[int, str]] = []
    todo = [(0, mapping(run.clustering.get("tests")))]
    while todo:
        depth, part = todo.pop()
        if not part:
            continue
        if len(lines) == MOST_TESTS:
            lines.append((0, "more groups are in clustering.json"))
            break
        lines.append((depth, _test(part)))
        todo += [(depth + 1, mapping(child)) for child in reversed(items(part.get("parts")))]
    return lines


def _test(part: Mapping[str, Any]) -> str:
    chances = ", ".join(f"{view} p = {p:.3g}" for view, p in numbers(part.get("p-values")).items())
    level, view, parts = number(part.get("level")), part.get("parted-by"), items(part.get("parts"))
    told = f"{whole(part.get('clients'))} clients: {chances or 'no test can tell'}"
    if level is not None:
        told += f"; needed {level:.3g}"
    return f"{told}; parted by {view} into {len(parts)}" if view else f"{told}; they stay together"
