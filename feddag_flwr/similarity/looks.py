r"""Whether a class still looks as it did, though nobody keeps the samples of then.

What is kept of each class are the means of a few features of its samples: random projections, the
same for all, and three energies: of the sample, of the steps between neighbours along a row, and
how much larger these are than those along a column. Of images, whose neighbours are alike, the
projections are smooth: most of what makes images differ is. The means of two draws of one
distribution differ by chance alone, and how much chance makes of it is known from how samples of a
class differ (Student 1908; Box 1954 for a sum of many).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray

PROJECTIONS: Final = 32
ENERGIES: Final = 3
SEEN: Final = 5  # samples of a class, then and now, that it takes to compare it
_TINY: Final = np.finfo(np.float64).tiny
_WIDTH: Final = 1 + PROJECTIONS + 2 * ENERGIES


def looks_size(classes: int) -> int:
    """Return how many numbers `Looks.numbers` gives for so many classes."""
    return classes * _WIDTH + PROJECTIONS**2


def features_of(
    matrix: npt.NDArray[np.floating[Any]], shape: tuple[int, ...], rng: np.random.Generator
) -> FloatArray:
    """Features (n, PROJECTIONS + ENERGIES) of samples of a shape, as rows (n, d).

    The last two axes of a shape of three are rows and columns of an image; nothing is known of
    neighbours along others. `rng` draws the projections.
    """
    samples = matrix.astype(np.float64).reshape(len(matrix), *shape)
    axes = rng.standard_normal((PROJECTIONS, *shape))
    if images := len(shape) == 3:
        axes = axes.cumsum(axis=-1).cumsum(axis=-2)  # a random walk in two dimensions
    axes /= np.linalg.norm(axes.reshape(PROJECTIONS, -1), axis=1).reshape(-1, *[1] * len(shape))
    inner = tuple(range(1, samples.ndim))

    def energy(values: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(np.square(values).sum(axis=inner) / matrix.shape[1]))

    along = energy(np.diff(samples, axis=-1))
    across = energy(np.diff(samples, axis=-2)) if images else along
    turned = np.log(np.maximum(along, _TINY)) - np.log(np.maximum(across, _TINY))
    projected = samples.reshape(matrix.shape) @ axes.reshape(PROJECTIONS, -1).T
    return np.column_stack([projected, energy(samples), along, turned])


@dataclass(frozen=True, eq=False)
class Looks:
    """What is kept of C classes.

    Attributes
    ----------
    samples : ndarray, shape (C,)
        Samples of each class; 0 where nothing is said of it.
    means : ndarray, shape (C, PROJECTIONS + ENERGIES)
        Mean features.
    variances : ndarray, shape (C, ENERGIES)
        Of the energies.
    whitening : ndarray, shape (PROJECTIONS, PROJECTIONS)
        Makes the projections of samples of a class about uncorrelated and of variance 1.
    """

    samples: FloatArray
    means: FloatArray
    variances: FloatArray
    whitening: FloatArray

    @classmethod
    def of(
        cls, features: FloatArray, labels: npt.NDArray[np.integer], classes: int, least: int = 1
    ) -> Looks:
        """Summarise the features (n, k) of samples with labels (n,).

        Classes with fewer than `least` samples are kept back.
        """
        counts = np.bincount(labels, minlength=classes)
        samples = np.where(counts >= least, counts, 0).astype(np.float64)
        means, variances = np.zeros((classes, features.shape[1])), np.zeros((classes, ENERGIES))
        for label in np.flatnonzero(samples):
            of_class = features[labels == label]
            means[label] = of_class.mean(axis=0)
            if len(of_class) > 1:
                variances[label] = of_class[:, PROJECTIONS:].var(axis=0, ddof=1)
        inside = samples[labels] > 0
        residuals = features[inside] - means[labels[inside]]
        return cls(samples, means, variances, _whitening(residuals[:, :PROJECTIONS]))

    def numbers(self) -> FloatArray:
        """Return all of it in one row."""
        table = np.column_stack([self.samples, self.means, self.variances])
        return np.concatenate([table.ravel(), self.whitening.ravel()])

    @classmethod
    def of_numbers(cls, numbers: Sequence[float] | FloatArray, classes: int) -> Looks:
        """Make what `numbers` gave."""
        row = np.asarray(numbers, dtype=np.float64)
        if row.shape != (looks_size(classes),):
            raise ValueError(f"looks of {classes} classes are {looks_size(classes)} numbers")
        table = row[: classes * _WIDTH].reshape(classes, _WIDTH)
        whitening = row[classes * _WIDTH :].reshape(PROJECTIONS, PROJECTIONS)
        return cls(table[:, 0], table[:, 1:-ENERGIES], table[:, -ENERGIES:], whitening)

    def chance_of(self, features: FloatArray, labels: npt.NDArray[np.integer]) -> float:
        """Find the chance that samples drawn anew are as far from these looks as those given.

        Four tests, of the projections and of each energy, share it (Bonferroni). Equal means say
        that nothing has changed, without a test: 1.
        """
        pairs = list(self._compared(features, labels))
        if all(np.array_equal(self.means[label], now.mean(axis=0)) for label, now in pairs):
            return 1.0
        chances = [_chance([self._projected(label, now) for label, now in pairs])]
        for energy in range(ENERGIES):
            chances.append(_chance([self._energy(label, now, energy) for label, now in pairs]))
        return min(1.0, len(chances) * min(chances))

    def _compared(
        self, features: FloatArray, labels: npt.NDArray[np.integer]
    ) -> Iterator[tuple[int, FloatArray]]:
        """Yield each class that can be compared, with its features now."""
        for label in np.unique(labels).tolist():
            now = features[labels == label]
            if min(self.samples[label], len(now)) >= SEEN:
                yield label, now

    def _projected(self, label: int, now: FloatArray) -> Difference:
        """Compare a class's projections; they spread as they do now."""
        part = now[:, :PROJECTIONS] @ self.whitening.T
        moved = part.mean(axis=0) - self.whitening @ self.means[label, :PROJECTIONS]
        return Difference.of_many(moved, part, 1.0 / (1.0 / self.samples[label] + 1.0 / len(now)))

    def _energy(self, label: int, now: FloatArray, energy: int) -> Difference:
        """Compare one energy of a class; it spreads as it did or as now, whichever is more."""
        part = now[:, PROJECTIONS + energy]
        moved = float(part.mean()) - float(self.means[label, PROJECTIONS + energy])
        return Difference.of_one(
            moved,
            (float(self.variances[label, energy]), float(part.var(ddof=1))),
            (float(self.samples[label]), len(part)),
        )


class Difference(NamedTuple):
    r"""How far a class's means are from those of then, and how far chance would take them.

    Attributes
    ----------
    seen : float
        :math:`m |\delta|^2` of the difference of means :math:`\delta`.
    expected : float
        Its mean if only chance were at work, :math:`\mathrm{tr}\, S`.
    square : float
        :math:`\mathrm{tr}\, S^2`: its variance then is twice that.
    unsure : float
        Variance of the estimate `expected`.
    """

    seen: float
    expected: float
    square: float
    unsure: float

    @classmethod
    def of_many(cls, moved: FloatArray, now: FloatArray, size: float) -> Difference:
        """Take a difference (k,) of features that spread as now (n, k); size is m."""
        residuals = now - now.mean(axis=0)
        moment = residuals.T @ residuals / (len(now) - 1)
        square = float(np.square(moment).sum())
        # At least as of normal features: a few samples may be equally far by chance.
        far = float(np.square(residuals).sum(axis=1).var(ddof=1)) / len(now)
        unsure = max(far, 2.0 * square / (len(now) - 1))
        return cls(size * float(moved @ moved), float(np.trace(moment)), square, unsure)

    @classmethod
    def of_one(
        cls, moved: float, variances: tuple[float, float], samples: tuple[float, float]
    ) -> Difference:
        """Take a difference of one feature, with two estimates of its variance from samples each.

        The larger one counts. A few samples may all be of one sort, where there are several: their
        variance says little then of how far from the mean they are.
        """
        size = 1.0 / (1.0 / samples[0] + 1.0 / samples[1])
        variance, number = max(zip(variances, samples, strict=True))
        square = variance**2
        return cls(size * moved**2, variance, square, 2.0 * square / (number - 1.0))


def _chance(classes: Sequence[Difference]) -> float:
    r"""Chance of :math:`Q = \sum_c m_c |\delta_c|^2` at least as large, of normal differences.

    Q has the mean :math:`E = \sum_c \mathrm{tr}\, S_c` and the variance
    :math:`2 \sum_c \mathrm{tr}\, S_c^2`; with the same two moments, Q / E is chi-squared by its
    degrees of freedom. That E is estimated, with a variance of its own, makes it an F distribution;
    of one class and one feature, that of Student's t-test.
    """
    from scipy.special import fdtrc  # 0.2 s that no other message needs

    seen, expected, square, unsure = np.sum(np.array(classes).reshape(-1, 4), axis=0).tolist()
    if expected <= 0.0:
        return float(seen <= 0.0)
    freedom, of_mean = expected**2 / square, 2.0 * expected**2 / max(unsure, _TINY)
    return float(fdtrc(freedom, min(of_mean, 1e12), seen / expected))


def _whitening(residuals: FloatArray) -> FloatArray:
    """Inverse root (k, k) of the covariance of residuals (n, k).

    Their correlations are drawn towards 0 as far as they may be noise (Ledoit and Wolf 2004).
    """
    size, features = residuals.shape
    deviations = np.sqrt(np.square(residuals).sum(axis=0) / max(1, size))
    scaled = residuals / np.where(deviations > 0.0, deviations, 1.0)
    correlations, whole = scaled.T @ scaled / max(1, size), np.eye(features)
    beyond = float(np.square(correlations - whole).sum())
    lengths = np.square(scaled).sum(axis=1)
    noise = float(np.square(lengths).sum()) - size * float(np.square(correlations).sum())
    drawn = min(1.0, max(0.0, noise) / max(1, size) ** 2 / beyond) if beyond > 0.0 else 1.0
    values, vectors = np.linalg.eigh((1.0 - drawn) * correlations + drawn * whole)
    least = features * np.finfo(np.float64).eps
    turned: FloatArray = (vectors / np.sqrt(np.maximum(values, least))).T
    return turned / np.where(deviations > 0.0, deviations, 1.0)
