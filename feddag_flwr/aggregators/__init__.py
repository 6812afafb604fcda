"""How the updates of many clients become one (setting ``aggregator``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights


class Aggregator(Protocol):
    """Joins what the members of a cluster trained; made once a run, without arguments."""

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the new weights of a part.

        From `updates`, the part as each member trained it, in the order of client names, one at
        least; `weights`, positive, that each member counts; and `reference`, the part as received.
        """


@runtime_checkable
class AssumesLiars(Protocol):
    """An aggregator that withstands a share of members who lie (setting ``assumed-liars``)."""

    assumed_liars: float


def enough_members(aggregator: Aggregator) -> float:
    """Return among how many members one who lies is outvoted; infinite: among no number of them.

    An aggregator says so by an attribute of that name.
    """
    return float(getattr(aggregator, "enough_members", math.inf))


def capped(counts: npt.ArrayLike, most: float) -> NDArray[np.float64]:
    """Cap what one client counts at `most` times the median of all.

    So nobody decides by claiming to have more.

    Examples
    --------
    >>> capped([1, 2, 3, 100], 10.0)
    array([ 1.,  2.,  3., 25.])
    """
    values = np.asarray(counts, dtype=np.float64)
    limited: NDArray[np.float64] = np.minimum(values, most * np.median(values))
    return limited
