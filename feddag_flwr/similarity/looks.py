r"""Whether a class still looks as it did, though nobody keeps the samples of then.

What is kept of each class are the means of a few features of its samples: random projections, the
same for all, and three energies: of the sample, of the steps between neighbours along a row, and
how much larger these are than those along a column. Of images, whose neighbours are alike, the
projections are smooth: most of what makes images differ is. The means of two draws of one
distribution differ by chance alone, and how much chance makes of it is known from how samples of a
class differ today (Welch 1947; Box 1954 for a sum of many).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray

PROJECTIONS: Final = 32
ENERGIES: Final = 3
SEEN: Final = 5  # samples of a class, then and now, that it takes to compare it
_WIDTH: Final = 1 + PROJECTIONS + ENERGIES


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
    least = np.finfo(np.float64).tiny
    turned = np.log(np.maximum(along, least)) - np.log(np.maximum(across, least))
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
    whitening : ndarray, shape (PROJECTIONS, PROJECTIONS)
        Makes the projections of samples of a class about uncorrelated and of variance 1.
    """

    samples: FloatArray
    means: FloatArray
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
        means = np.zeros((classes, features.shape[1]))
        for label in np.flatnonzero(samples):
            means[label] = features[labels == label].mean(axis=0)
        inside = samples[labels] > 0
        residuals = features[inside] - means[labels[inside]]
        return cls(samples, means, _whitening(residuals[:, :PROJECTIONS]))

    def numbers(self) -> FloatArray:
        """Return all of it in one row."""
        table = np.column_stack([self.samples, self.means])
        return np.concatenate([table.ravel(), self.whitening.ravel()])

    @classmethod
    def of_numbers(cls, numbers: Sequence[float] | FloatArray, classes: int) -> Looks:
        """Make what `numbers` gave."""
        row = np.asarray(numbers, dtype=np.float64)
        if row.shape != (looks_size(classes),):
            raise ValueError(f"looks of {classes} classes are {looks_size(classes)} numbers")
        table = row[: classes * _WIDTH].reshape(classes, _WIDTH)
        whitening = row[classes * _WIDTH :].reshape(PROJECTIONS, PROJECTIONS)
        return cls(table[:, 0], table[:, 1:], whitening)

    def chance_of(self, features: FloatArray, labels: npt.NDArray[np.integer]) -> float:
        """Find the chance that samples drawn anew are as far from these looks as those given.

        Four tests, of the projections and of each energy, share it (Bonferroni). Equal means say
        that nothing has changed, without a test: 1.
        """
        pairs = list(self._compared(features, labels))
        if all(np.array_equal(before, now.mean(axis=0)) for before, now, _ in pairs):
            return 1.0
        blocks = [
            _chance(
                [
                    ((now.mean(axis=0) - before)[part] @ turn, (now[:, part] @ turn), size)
                    for before, now, size in pairs
                ]
            )
            for part, turn in (
                (slice(PROJECTIONS), self.whitening.T),
                *((slice(k, k + 1), np.eye(1)) for k in range(PROJECTIONS, PROJECTIONS + ENERGIES)),
            )
        ]
        return min(1.0, len(blocks) * min(blocks))

    def _compared(
        self, features: FloatArray, labels: npt.NDArray[np.integer]
    ) -> Iterator[tuple[FloatArray, FloatArray, float]]:
        """Yield of each class that can be compared: means then, features now, 1 / (1/n + 1/m)."""
        for label in np.unique(labels):
            now, then = features[labels == label], float(self.samples[label])
            if min(then, len(now)) >= SEEN:
                yield self.means[label], now, 1.0 / (1.0 / then + 1.0 / len(now))


def _chance(classes: Sequence[tuple[FloatArray, FloatArray, float]]) -> float:
    r"""Chance of :math:`Q = \sum_c m_c |\delta_c|^2` at least as large, of normal differences.

    Of each class there are the difference of means (k,), the features now (n, k), and m. Q has the
    mean :math:`E = \sum_c \mathrm{tr}\, S_c` and the variance :math:`2 \sum_c \mathrm{tr}\, S_c^2`;
    with the same two moments, Q / E is chi-squared by its degrees of freedom. That E is estimated,
    with a variance of its own, makes it an F distribution.
    """
    from scipy.special import fdtrc  # 0.2 s that no other message needs

    seen, mean, squares, unsure = 0.0, 0.0, 0.0, 0.0
    for difference, now, size in classes:
        residuals = now - now.mean(axis=0)
        moment = residuals.T @ residuals / (len(now) - 1)
        seen += size * float(difference @ difference)
        mean += float(np.trace(moment))
        squares += float(np.square(moment).sum())
        unsure += float(np.square(residuals).sum(axis=1).var(ddof=1)) / len(now)
    if mean <= 0.0:
        return float(seen <= 0.0)
    freedom, of_mean = mean**2 / squares, 2.0 * mean**2 / max(unsure, np.finfo(float).tiny)
    return float(fdtrc(freedom, min(of_mean, 1e12), seen / mean))


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
