"""The images of a data set: some are a client's, the others are known not to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.pixels import unit_pixels
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import Rows
from feddag_flwr.settings import Settings
from feddag_lab.attacks.victim import scale_of

DIGITS = "digits"
FASHION_MNIST = "fashion-mnist"


@dataclass(frozen=True)
class Drawn:
    """A client's images, and others of the same data set that it does not have."""

    own: LabelledSamples
    others: LabelledSamples

    def others_of(self, label: int) -> NDArray[np.float64]:
        """Return the others of a class, an image a row, pixels in [0, 1]."""
        return pixels_of(self.others.select(np.flatnonzero(self.others.labels == label)))


@dataclass(frozen=True)
class ImagePool:
    """All images of a data set.

    Attributes
    ----------
    config : dict
        The run config that names the data set.
    images : LabelledSamples
        Those of its training and test part together.
    scale : Rows
        How pixels become inputs, by the moments of all images.
    """

    dataset: str
    config: dict[str, Any]
    class_names: tuple[str, ...]
    images: LabelledSamples
    scale: Rows

    @classmethod
    def load(cls, data_dir: str = "") -> ImagePool:
        """Load the digits, or Fashion-MNIST from a folder."""
        dataset = FASHION_MNIST if data_dir else DIGITS
        config: dict[str, Any] = {"dataset": dataset, "data-dir": data_dir, "device": "cpu"}
        loaded = load_dataset(Settings.from_run_config(config))
        images = LabelledSamples(
            np.concatenate([loaded.train.samples, loaded.test.samples]),
            np.concatenate([loaded.train.labels, loaded.test.labels]),
        )
        return cls(dataset, config, loaded.class_names, images, scale_of(images))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: channels, height, width."""
        return tuple(self.images.samples.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def draw(self, count: int, rng: np.random.Generator) -> Drawn:
        """Draw a client's images, whatever their classes."""
        return self._drawn(rng.permutation(len(self.images)), count)

    def draw_of_each(self, count: int, rng: np.random.Generator) -> Drawn:
        """Draw so many of a client's images of each class; labels in order."""
        order = rng.permutation(len(self.images))
        chosen = [order[self.images.labels[order] == label][:count] for label in self._labels()]
        first = np.concatenate(chosen)
        return self._drawn(np.concatenate([first, np.setdiff1d(order, first)]), len(first))

    def least_of_a_class(self) -> int:
        """Count the images of the smallest class."""
        return int(np.bincount(self.images.labels, minlength=self.num_classes).min())

    def _labels(self) -> Sequence[int]:
        return range(self.num_classes)

    def _drawn(self, order: NDArray[np.intp], count: int) -> Drawn:
        return Drawn(self.images.select(order[:count]), self.images.select(order[count:]))


def pixels_of(samples: LabelledSamples) -> NDArray[np.float64]:
    """Return images as rows of pixels in [0, 1]."""
    return unit_pixels(samples.samples).reshape(len(samples), -1)
