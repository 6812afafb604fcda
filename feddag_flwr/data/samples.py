"""Labelled samples in memory, and the error that every fault of the data raises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.mapped import taken
from feddag_flwr.modalities.base import SampleSpec

# Label of a sample that has none.
UNLABELLED = -1


class DataError(ValueError):
    """A dataset, a path or a client's part of the data is not as it must be.

    Attributes
    ----------
    told : str
        What the server is told: the same, but for values of the data that the text quotes.
    """

    def __init__(self, text: str, *, told: str = "") -> None:
        super().__init__(text)
        self.told = told or text

    def of(self, where: str) -> DataError:
        """Return the same error, and where it is."""
        return DataError(f"{where}: {self}", told=f"{where}: {self.told}")


def in_one_line(error: BaseException) -> str:
    """Return what an error of a library says, as one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, eq=False)
class LabelledSamples:
    """Samples and their labels; read-only by agreement, for the arrays are shared in a process.

    The first axis of both has length n. Samples are in the form that the modality holds; images:
    (n, channels, height, width), uint8 in [0, 255] or float32 in [0, 1].
    """

    samples: NDArray[Any]
    labels: NDArray[np.int64]  # (n,), indices into the class names, or all `UNLABELLED`

    def __post_init__(self) -> None:
        if not self.samples.ndim or self.labels.shape != self.samples.shape[:1]:
            raise DataError(
                f"samples of shape {self.samples.shape} with labels of shape {self.labels.shape}: "
                "expected (n, ..) with (n,)"
            )

    @classmethod
    def without_labels(cls, samples: NDArray[Any]) -> LabelledSamples:
        """Return samples of which nobody knows what they show."""
        return cls(samples, np.full(len(samples), UNLABELLED, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: NDArray[np.int64]) -> LabelledSamples:
        """Return copies of the samples at `indices`, in that order; see `taken`."""
        return LabelledSamples(taken(self.samples, indices), self.labels[indices])


class Parts(NamedTuple):
    """What a file, a folder or a library holds, before any hold-out; no classes: no labels.

    Attributes
    ----------
    spec : SampleSpec or None
        What the samples have in common, where they do not tell it themselves.
    files_left_out : int
        Files that cannot be read, and images in no class's folder.
    """

    train: LabelledSamples
    test: LabelledSamples | None
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...] = ()
    spec: SampleSpec | None = None
    files_left_out: int = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, named as in the setting ``dataset``, with samples of one shape and type.

    Attributes
    ----------
    domain_names : tuple of str
        Where the dataset has domains, label l is class l mod C of domain l // C; else empty.
    spec : SampleSpec or None
        As in `Parts`.
    """

    name: str
    train: LabelledSamples
    test: LabelledSamples
    class_names: tuple[str, ...]
    domain_names: tuple[str, ...] = ()
    spec: SampleSpec | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.train.samples.shape[1:]
