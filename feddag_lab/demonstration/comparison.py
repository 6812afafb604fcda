"""Whether two runs ended with the same models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from feddag_flwr.layout import KINDS
from feddag_flwr.state import ServerState


@dataclass(frozen=True)
class StateComparison:
    """Two servers' states beside each other.

    Attributes
    ----------
    same_clusters : bool
        Whether both have the same clients in the same clusters, which learn from the same ones.
    numbers : int
        How many numbers the models of the first have.
    different : int
        How many of them are not equal to the bit; all, where the models are of different shapes.
    largest : float
        The largest difference between two numbers; infinite where they cannot be compared.
    """

    same_clusters: bool
    numbers: int
    different: int
    largest: float

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.same_clusters and not self.different

    def __str__(self) -> str:
        if self.equal:
            return f"equal to the bit: all {self.numbers:,} numbers of the models, the clusters too"
        clusters = "the same clusters" if self.same_clusters else "other clusters"
        return (
            f"not equal: {self.different:,} of {self.numbers:,} numbers differ, "
            f"by {self.largest:.3g} at most; {clusters}"
        )


def compare_states(first: ServerState, second: ServerState) -> StateComparison:
    """Compare clusters and models of two servers, numbers by their bits.

    Parameters
    ----------
    first, second : ServerState
        For example after the last round of two runs.

    Returns
    -------
    StateComparison
        What is the same and what is not.
    """
    same = (first.assignments, first.teachers) == (second.assignments, second.teachers)
    ours, theirs = _arrays(first), _arrays(second)
    numbers = sum(array.size for array in ours.values())
    kinds = [{key: (a.shape, a.dtype) for key, a in arrays.items()} for arrays in (ours, theirs)]
    if kinds[0] != kinds[1]:
        return StateComparison(False, numbers, numbers, float("inf"))
    gaps = [np.zeros(0)]
    for key, array in ours.items():
        unequal = _bits(array) != _bits(theirs[key])
        gaps.append(np.abs(array[unequal].astype(float) - theirs[key][unequal].astype(float)))
    different = np.nan_to_num(np.concatenate(gaps), nan=np.inf, posinf=np.inf)
    return StateComparison(same, numbers, different.size, float(different.max(initial=0.0)))


def _arrays(state: ServerState) -> dict[str, np.ndarray]:
    return {
        f"{cluster}.{part}.{kind}": getattr(weights, kind)
        for cluster, model in enumerate(state.models)
        for part, weights in model.items()
        for kind in KINDS
    }


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
