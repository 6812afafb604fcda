"""Pictures of a scenario: who holds how much of which label, and what the images look like."""

from itertools import groupby
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from feddag_flwr.data.overview import ScenarioTable, tabulate
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.settings import Settings

SHEET_CLIENTS = 12
SHEET_SAMPLES = 10
_LABEL_WIDTH = 1.5  # of the sheet, in inches, as all lengths on it
_ROW_PITCH = 1.2
_MOST_ROW_LABELS = 60
_DOTS_PER_INCH = 130


def draw_scenario(settings: Settings, folder: Path) -> list[Path]:
    """Draw the scenario that the settings describe into a folder, and return both files.

    ``counts.png`` shows clients x labels, rows sorted by true group, ``samples.png`` a row of
    training images for each of a few clients, spread over the groups.
    """
    table = tabulate(settings)
    title = f"{settings.data.dataset}, {settings.data.scenario}: {len(table.names)} clients"
    if None not in table.groups:
        title += f", {len(set(table.groups))} true groups"
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "counts.png": draw_counts(table, title),
        "samples.png": draw_samples(table, settings, title),
    }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=_DOTS_PER_INCH)
    return [folder / name for name in figures]


def literal(text: str) -> str:
    """Escape the sign by which Matplotlib takes what follows for a formula."""
    return text.replace("$", r"\$")


def draw_counts(table: ScenarioTable, title: str) -> Figure:
    """Draw training samples by client and label; white is none."""
    order = table.by_group()
    counts = table.counts[order]
    few = len(order) <= _MOST_ROW_LABELS
    height = float(np.clip(0.17 * len(order), 3.0, 8.5)) + 1.6
    width = float(np.clip(0.55 * len(table.class_names), 4.5, 14.0)) + 3.0
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    shades = axes.imshow(
        np.ma.masked_equal(counts, 0),
        aspect="auto",
        interpolation="nearest",
        cmap="viridis_r",
        norm=LogNorm(vmin=1, vmax=max(2, int(counts.max()))),
    )
    figure.colorbar(shades, ax=axes, label="training samples", pad=0.02)
    axes.set_title(literal(title))
    names = list(map(literal, table.class_names))
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(
        range(len(order)) if few else [],
        [_row_label(table, client) for client in order] if few else [],
        fontsize=7,
    )
    if not few:
        axes.set_ylabel("clients, sorted by true group")
    _separate_groups(axes, table, order, named=not few)
    return figure


def _row_label(table: ScenarioTable, client: int) -> str:
    words = [table.names[client]]
    words += [f"group {table.groups[client]}"] if table.groups[client] is not None else []
    words += [table.variations[client]] if table.variations[client] else []
    return literal(" | ".join(words))


def _separate_groups(axes: Axes, table: ScenarioTable, order: list[int], *, named: bool) -> None:
    """Draw a line between the groups and, where rows have no names, name the groups."""
    ticks, labels, start = [], [], 0
    for group, members in groupby(order, key=lambda client: table.groups[client]):
        clients = list(members)
        if start:
            axes.axhline(start - 0.5, color="black", linewidth=0.8)
        ticks.append(start + (len(clients) - 1) / 2)
        common = {table.variations[client] for client in clients}
        words = [f"group {group}", *(common if len(common) == 1 else set())]
        labels.append(literal(" | ".join(word for word in words if word)))
        start += len(clients)
    if named and len(ticks) <= _MOST_ROW_LABELS and table.groups[order[0]] is not None:
        axes.set_yticks(ticks, labels, fontsize=7)


def choose_clients(table: ScenarioTable, most: int = SHEET_CLIENTS) -> list[int]:
    """Choose clients, sorted by group, of as many groups as fit, the first members first."""
    members = [list(part) for _, part in groupby(table.by_group(), key=lambda c: table.groups[c])]
    if len(members) == 1:
        spread = np.linspace(0, len(members[0]) - 1, min(most, len(members[0]))).round()
        return [members[0][int(index)] for index in spread]
    picked = np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(int)
    of_each = max(1, most // len(picked))
    return [client for index in picked for client in members[index][:of_each]]


def draw_samples(table: ScenarioTable, settings: Settings, title: str) -> Figure:
    """Draw a row of training images, under their labels, for each of a few clients."""
    chosen = choose_clients(table)
    width, height = SHEET_SAMPLES + _LABEL_WIDTH, _ROW_PITCH * len(chosen) + 0.4
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: a hundred axes take seconds
    axes.axis("off")
    axes.text(width / 2, 0.2, literal(title), ha="center", va="center", fontsize=12)
    for row, client in enumerate(chosen):
        top = 0.4 + _ROW_PITCH * row
        words = _row_label(table, client).replace(" | ", "\n").replace(", ", "\n")
        axes.text(_LABEL_WIDTH - 0.1, top + 0.65, words, ha="right", va="center", fontsize=7)
        data = load_client_data(settings, {"partition-id": client})
        for column, sample in enumerate(_spread_over_labels(data.train)):
            left, image = _LABEL_WIDTH + column, data.train.samples[sample]
            label = literal(data.class_names[data.train.labels[sample]])
            width_shown = show_image(axes, image, left, top + 0.2, 0.92)
            middle = left + width_shown / 2
            axes.text(middle, top + 0.13, label, ha="center", va="center", fontsize=7)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def _spread_over_labels(part: LabelledSamples) -> list[int]:
    """Pick samples of one label after the other, the first of each, then the second, .."""
    turns = [
        (turn, label, sample)
        for label in np.unique(part.labels).tolist()
        for turn, sample in enumerate(np.flatnonzero(part.labels == label)[:SHEET_SAMPLES].tolist())
    ]
    picked = sorted(turns)[:SHEET_SAMPLES]
    return [sample for _, _, sample in sorted(picked, key=lambda pick: (pick[1], pick[0]))]


def show_image(
    axes: Axes, image: NDArray[np.generic], left: float, top: float, side: float
) -> float:
    """Show an image: three channels as colour, otherwise their mean as grey; return its width."""
    height, width = (side * length / max(image.shape[1:]) for length in image.shape[1:])
    axes.imshow(
        image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0),
        cmap="gray",
        vmin=0,
        vmax=255 if image.dtype == np.uint8 else 1,
        extent=(left, left + width, top + height, top),
    )
    return float(width)
