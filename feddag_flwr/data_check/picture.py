"""A client's principal vectors as images, so that its owner sees what they reveal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from feddag_flwr.data.client import ClientData
from feddag_flwr.data.pictures import literal, show_image
from feddag_flwr.data.pixels import unit_pixels
from feddag_flwr.data_check.disclosure import ClassVectors

# Classes on the picture, and vectors of each: more would not be looked at.
MOST_CLASSES = 40
MOST_VECTORS = 12
_LABEL_WIDTH = 1.8  # in inches, as all lengths on the picture
_PITCH = 1.15
_SIDE = 1.0
_TOP = 0.7
_DOTS_PER_INCH = 130


def draw_vectors(
    data: ClientData,
    vectors: Sequence[ClassVectors],
    path: Path,
    shape: tuple[int, ...],
) -> None:
    """Draw each class's vectors beside the training image that comes nearest to one of them.

    `shape` is that of the images (channels, height, width) that the vectors are. Vectors are scaled
    to the full range of grey levels, as anybody who has them would do. Of more than `MOST_CLASSES`
    classes those whose vectors come nearest to an image are drawn. The suffix of `path` says the
    format.
    """
    shown = sorted(vectors, key=lambda of_class: -of_class.likeness)[:MOST_CLASSES]
    shown = sorted(shown, key=lambda of_class: of_class.label)
    columns = 1 + min(MOST_VECTORS, max(len(of_class.vectors) for of_class in shown))
    width, height = _LABEL_WIDTH + _PITCH * columns + 0.1, _TOP + (_PITCH + 0.15) * len(shown)
    figure = Figure(figsize=(max(width, 6.0), height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    title = f"{data.name}: principal vectors that the server gets"
    if len(shown) < len(vectors):
        title += f" ({len(shown)} of {len(vectors)} classes)"
    axes.text(0.1, 0.2, literal(title), va="center", fontsize=11)
    _head(axes, _LABEL_WIDTH, "nearest training image")
    _head(axes, _LABEL_WIDTH + _PITCH, "vectors sent")
    for row, of_class in enumerate(shown):
        top = _TOP + 0.1 + (_PITCH + 0.15) * row
        words = "none sent"
        if len(of_class.vectors):
            words = f"likeness {of_class.likeness:.2f}"
            nearest = unit_pixels(data.train.samples[of_class.nearest])
            show_image(axes, nearest, _LABEL_WIDTH, top, _SIDE)
        words = literal(f"{data.class_names[of_class.label]}\n{words}")
        middle = top + _SIDE / 2
        axes.text(_LABEL_WIDTH - 0.1, middle, words, ha="right", va="center", fontsize=7)
        for column, vector in enumerate(of_class.vectors[:MOST_VECTORS]):
            image = _stretched(vector).reshape(shape)
            show_image(axes, image, _LABEL_WIDTH + _PITCH * (1 + column), top, _SIDE)
    axes.set(xlim=(0, max(width, 6.0)), ylim=(height, 0))
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _head(axes: Axes, left: float, text: str) -> None:
    axes.text(left, _TOP - 0.08, text, ha="left", va="center", fontsize=6, color="dimgrey")


def _stretched(vector: NDArray[np.float32]) -> NDArray[np.float64]:
    values = vector.astype(np.float64)
    span = values.max() - values.min()
    scaled: NDArray[np.float64] = (values - values.min()) / (span if span > 0 else 1.0)
    return scaled
