"""Min-max normalisation of a dissimilarity over its off-diagonal entries (Sec. 3.3)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, checked_dissimilarity

ROUNDING: Final = 1e-4
"""Dissimilarities, mostly degrees, that differ by no more are equal but for rounding.

The angles of equal subspaces come out some 1e-6 degrees apart, a right angle in single precision as
well; where clients do differ, it is by more than this.
"""


@dataclass(frozen=True)
class Scale:
    """The range that a dissimilarity is brought to [0, 1] with."""

    minimum: float  # smallest and largest off-diagonal entry, in the unit of the input
    maximum: float  # both 0 for a single client

    def apply(self, values: npt.ArrayLike) -> FloatArray:
        """Bring dissimilarities to this scale, clipped to [0, 1] (Algorithm 4).

        A range of mere rounding leaves nothing to tell apart: all become 0.
        """
        array = np.asarray(values, dtype=np.float64)
        if self.maximum - self.minimum <= ROUNDING:
            return np.zeros_like(array)
        scaled: FloatArray = (array - self.minimum) / (self.maximum - self.minimum)
        return np.clip(scaled, 0.0, 1.0, out=scaled)


@dataclass(frozen=True, eq=False)
class Normalised:
    """A normalised dissimilarity, and how it came about."""

    matrix: FloatArray  # (N, N), in [0, 1], diagonal 0
    scale: Scale  # before


def normalise(matrix: npt.ArrayLike) -> Normalised:
    """Bring the off-diagonal entries of a dissimilarity to [0, 1], Sec. 3.3 of arXiv 2602.23504.

    The smallest entry, of G (Eq. 3) or V (Eq. 6) in degrees, becomes 0 and the largest 1; the
    diagonal is 0, and all is where the other entries are all equal but for rounding.

    Examples
    --------
    >>> normalise([[0.0, 30.0, 60.0], [30.0, 0.0, 90.0], [60.0, 90.0, 0.0]]).matrix
    array([[0. , 0. , 0.5],
           [0. , 0. , 1. ],
           [0.5, 1. , 0. ]])
    """
    array = checked_dissimilarity(matrix, "the matrix to normalise")
    clients = len(array)
    if clients == 1:
        return Normalised(np.zeros((1, 1)), Scale(0.0, 0.0))
    # Reshaped so, every row but the last starts with a diagonal entry, which is left out.
    off_diagonal = array.ravel()[:-1].reshape(clients - 1, clients + 1)[:, 1:]
    scale = Scale(float(off_diagonal.min()), float(off_diagonal.max()))
    result = scale.apply(array)
    np.fill_diagonal(result, 0.0)
    return Normalised(result, scale)
