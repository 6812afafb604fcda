r"""Class-wise second moments and counts with Gaussian noise (Analyze Gauss, Dwork et al. 2014).

Two data sets are neighbours where one has one sample more than the other. A sample of class c and
unit row u adds 1 to the count of c, and :math:`u u^T` to its second moments. Nothing else depends
on it: rows are projected by a matrix that is drawn by the run's seed, and each is scaled by its own
length. So between neighbours

- counts differ in one entry by 1: their Euclidean sensitivity is 1;
- second moments differ in one class by :math:`u u^T`, whose Frobenius norm is
  :math:`|u|^2 \le 1`: the sensitivity of all classes' matrices together is 1.

Both bounds are properties of unit rows and hold for any data. What is made of noisy counts and
moments (which classes are told, how many vectors, their directions) looks at the data no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.noise import FloatArray, GaussianNoise

JUST_BELOW: Final = 1.0 - 1e-12  # what rounding cannot bring above 1
CHANCE: Final = 0.001  # at which noise alone tells a class, or a direction, that is not there


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """What a client's samples add up to, class by class.

    Attributes
    ----------
    counts : ndarray, shape (C,), int64
        Samples.
    seconds : ndarray, shape (C, d, d)
        Sums of u u^T over unit rows u.
    """

    counts: NDArray[np.int64]
    seconds: FloatArray

    @classmethod
    def none(cls, classes: int, dimensions: int) -> ClassMoments:
        """Return those of no samples."""
        return cls(np.zeros(classes, dtype=np.int64), np.zeros((classes, dimensions, dimensions)))

    def add(self, rows: FloatArray, labels: NDArray[np.integer]) -> None:
        """Add samples: rows (n, d) of any length, and the class of each."""
        unit = unit_rows(rows)
        self.counts[:] += np.bincount(labels, minlength=len(self.counts))
        for label in np.unique(labels):
            of_class = unit[labels == label]
            self.seconds[label] += of_class.T @ of_class

    def released(self, budget: ProfileBudget, noise: GaussianNoise) -> NoisyMoments:
        """Add the noise of a budget: the one place where data becomes what may be told."""
        classes, dimensions, _ = self.seconds.shape
        counts = self.counts + budget.count_noise * noise.normal(classes)
        seconds = self.seconds.copy()
        for of_class in seconds:
            of_class += budget.moment_noise * noise.symmetric(dimensions)
        return NoisyMoments(counts, seconds, budget)


@dataclass(frozen=True, eq=False)
class NoisyMoments:
    """What may be told of a client's samples: counts (C,), second moments (C, d, d)."""

    counts: FloatArray
    seconds: FloatArray
    budget: ProfileBudget

    def told_counts(self) -> NDArray[np.int64]:
        """Return counts (C,), 0 for classes that noise alone could have made.

        The largest count is told in any case, as 1 at least: who has no class cannot be placed.
        """
        from scipy.special import ndtri

        least = max(1.0, -float(ndtri(CHANCE)) * self.budget.count_noise)
        told = np.where(self.counts >= least, np.rint(self.counts), 0.0).astype(np.int64)
        if not told.any():
            largest = int(self.counts.argmax())
            told[largest] = max(1, round(float(self.counts[largest])))
        return told

    def vectors(self, label: int, most: int) -> FloatArray:
        r"""Return leading directions (r, d) of a class, r <= most, by falling eigenvalue.

        Those whose eigenvalue noise alone could have made are left out: it exceeds
        :math:`\sigma_m (\sqrt{2 d} + \sqrt{2 \ln(1 / p)})` with chance p at most, for the
        largest eigenvalue changes no faster than the matrix (concentration of Gaussian measure).
        The entry of largest magnitude is positive.
        """
        from scipy.linalg import eigh

        order = self.seconds.shape[1]
        least = math.sqrt(2.0 * order) + math.sqrt(2.0 * math.log(1.0 / CHANCE))
        lowest = max(0, order - most)
        values, vectors = eigh(self.seconds[label], subset_by_index=(lowest, order - 1))
        kept = vectors[:, values > least * self.budget.moment_noise].T[::-1]
        peaks = kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)]
        directions: FloatArray = kept * np.sign(peaks)[:, None]
        return directions


def unit_rows(rows: FloatArray) -> FloatArray:
    """Scale each row (n, d) to length 1, whatever it holds; one without a direction becomes zero.

    No length is above 1, rounded or not.
    """
    finite = np.isfinite(rows).all(axis=1, keepdims=True)
    safe = np.where(finite, rows, 0.0)
    largest = np.abs(safe).max(axis=1, keepdims=True, initial=0.0)
    safe = np.divide(safe, largest, out=np.zeros_like(safe), where=largest > 0.0)
    lengths = np.linalg.norm(safe, axis=1, keepdims=True)
    unit: FloatArray = np.divide(safe, lengths, out=np.zeros_like(safe), where=lengths > 0.0)
    return unit * JUST_BELOW


def projection(features: int, dimensions: int, rng: np.random.Generator) -> FloatArray | None:
    """Draw a random projection (dimensions, features); None where it would not shorten rows.

    It must be drawn by what all clients share, and never by the data.
    """
    if features <= dimensions:
        return None
    drawn: FloatArray = rng.standard_normal((dimensions, features)) / math.sqrt(dimensions)
    return drawn
