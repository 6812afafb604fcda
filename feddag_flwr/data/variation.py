"""What changes a client's images and labels besides the split: concept, rotation, corruption."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.samples import LabelledSamples

QUARTER_TURNS = 4


@dataclass(frozen=True)
class Variation:
    """One client's variation; the default changes nothing."""

    concept: int = 0  # scenario II's label map, see `map_labels`
    quarter_turns: int = 0  # against the clock
    corruption: str = ""  # kind (scenario IV); empty for none
    severity: int = 0  # 1 to 5; 0 without a corruption

    def words(self) -> str:
        """Say what is changed, for instance ``"concept 2, 90 degrees, fog 3"``."""
        words = [f"concept {self.concept}"] if self.concept else []
        words += [f"{90 * self.quarter_turns} degrees"] if self.quarter_turns else []
        words += [f"{self.corruption} {self.severity}"] if self.corruption else []
        return ", ".join(words)


def map_labels(labels: NDArray[np.int64], concept: int, num_classes: int) -> NDArray[np.int64]:
    """Apply the label map of a concept (Sec. 5, scenario II) to labels y from 0 to C - 1.

    Concept 0 is y, 1 is (C - y) mod C, 2 is (y + 1) mod C.

    Examples
    --------
    >>> [map_labels(np.arange(4), concept, 4).tolist() for concept in range(3)]
    [[0, 1, 2, 3], [0, 3, 2, 1], [1, 2, 3, 0]]
    """
    if concept == 0:
        return labels
    return (num_classes - labels if concept == 1 else labels + 1) % num_classes


def turn(images: NDArray[Any], quarter_turns: int) -> NDArray[Any]:
    """Rotate images of shape (n, channels, side, side) by exact quarter turns against the clock."""
    if quarter_turns == 0:
        return images
    return np.ascontiguousarray(np.rot90(images, quarter_turns, axes=(2, 3)))


def with_looks(part: LabelledSamples, looks: str) -> LabelledSamples:
    """Return the images of a camera that was ``turned`` or put ``upside-down``, or ``inverted``.

    ``none`` changes nothing. Labels stay.
    """
    if looks == "inverted":
        brightest = 255 if part.samples.dtype == np.uint8 else 1
        return LabelledSamples(brightest - part.samples, part.labels)
    turns = {"none": 0, "turned": 1, "upside-down": 2}[looks]
    return LabelledSamples(turn(part.samples, turns), part.labels)
