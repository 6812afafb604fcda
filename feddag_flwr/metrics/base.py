"""What a metric is: a state that clients compute and that merges, and a value that follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, NDArray[Any]]

# The largest believable mean loss of a sample, nats.
MAX_LOSS = 1e12


class MetricError(ValueError):
    """A state is none that a metric can have come to."""


class ArraySpec(NamedTuple):
    """Form of one array of a state: int64 or float64, and its shape.

    () is a number; None: any length, as where states are joined end to end.
    """

    dtype: type[np.int64] | type[np.float64]
    shape: tuple[int | None, ...] = ()


class Metric(ABC):
    """A figure that says how good a model is.

    A client calls `update` for each batch of its test data and adds the states up with `merge`; the
    server checks what came and calls `value`. No state may need all scores at once.

    Attributes
    ----------
    name : str
        In reports, and in messages: letters, digits and hyphens.
    by_client : bool
        Whether ``metrics.jsonl`` holds it for each client, too.
    higher_is_better : bool
        Whether the larger of two values is of the better model.
    """

    name: str
    percent: bool = True
    by_client: bool = True
    higher_is_better: bool = True

    @abstractmethod
    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of each array of a state."""

    @abstractmethod
    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Compute the state of one batch.

        Parameters
        ----------
        scores : Tensor, shape (n, C)
            Logits; of a model that diverged they may be NaN or infinite, the state may not.
        labels : Tensor, shape (n,), int64
            True classes.
        losses : Tensor, shape (n,)
            Cross-entropy of each sample, nats; as finite as the scores.
        """

    @abstractmethod
    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return the figure; NaN if it does not exist. `totals` (C,) are samples a true class."""

    def details(self, state: State, totals: NDArray[np.int64]) -> Mapping[str, Any]:
        """Return what else ``summary.json`` says, such as a figure a class: by default nothing."""
        del state, totals
        return {}

    def merge(self, first: State, second: State) -> State:
        """Return the state of two sets of samples together: by default the sums of the arrays."""
        return {key: np.asarray(first[key] + second[key]) for key in first}

    @abstractmethod
    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse by a `MetricError` a state that no such samples can have led to.

        Types, shapes and finiteness are those of `arrays` already.
        """
