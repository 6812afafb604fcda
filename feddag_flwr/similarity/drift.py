"""How far a client's classes have moved since they were last looked at (A.9, Eq. 41)."""

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray

# Standard deviations above the mean up to which a distance may be nothing but sampling noise.
NOISE_DEVIATIONS = 5.0


def class_shift(before: npt.ArrayLike, after: npt.ArrayLike) -> float:
    """Share of a client's samples that changed class, beyond what sampling explains (Eq. 41).

    The paper compares the 1-Wasserstein distance of two class histograms, classes on the line
    0 .. C - 1, with a threshold that stands for "about 20 % of the data changed". **Ruling**: what
    is compared is the larger of two 1-Wasserstein distances of the normalised histograms,

    - classes on the line 0 .. C - 1, divided by the mean distance (C^2 - 1) / (3 C) of two classes
      drawn at random: the share of samples that moved to a class at random;
    - all classes at distance 1 (the total variation): the share of samples that changed class.
      A class's number means nothing, and on the line a move to its neighbour hardly shows.

    Two samples of one distribution differ too. The mean distance of two of these sizes, drawn from
    the pooled histogram, is taken off; a distance within `NOISE_DEVIATIONS` standard deviations of
    that mean counts as 0: with 20 to 120 samples of 3 in 10 classes, drawn anew each time, fewer
    than one in 3,000 read 0.2 or more.

    `before` and `after` (C,) are counts, not shares, for their sums tell how much chance is in
    them. The result is 0 for equal histograms, above 1 for long moves on the line, and symmetric.

    Examples
    --------
    Every fourth of a million samples moved from class 0 to class 3, which are 3 apart where two
    classes drawn at random are 1.25 apart.

    >>> round(class_shift([1_000_000, 0, 0, 0], [750_000, 0, 0, 250_000]), 2)
    0.6
    """
    first, second = _checked(before, "before"), _checked(after, "after")
    if first.shape != second.shape:
        raise ValueError(f"before has {first.size} classes, after has {second.size}")
    classes = len(first)
    if classes == 1:
        return 0.0
    sizes = float(first.sum()), float(second.sum())
    spread = 1 / sizes[0] + 1 / sizes[1]
    pooled = (first + second) / sum(sizes)
    on_line = _beyond_noise(line_distance(first, second), _line_covariance(pooled) * spread)
    share = np.abs(first / sizes[0] - second / sizes[1]).sum()
    covariance = (np.diag(pooled) - np.outer(pooled, pooled)) * spread
    changed = _beyond_noise(float(share), covariance) / 2  # who leaves one class enters another
    return max(on_line * 3 * classes / (classes**2 - 1), changed)


def _checked(histogram: npt.ArrayLike, name: str) -> FloatArray:
    counts = np.asarray(histogram, dtype=np.float64)
    if counts.ndim != 1 or counts.size == 0:
        raise ValueError(f"{name} must have shape (C,), C >= 1, got {counts.shape}")
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError(f"{name} must hold counts, finite and not negative, got {counts.tolist()}")
    if not counts.sum() > 0:
        raise ValueError(f"{name} has no samples")
    return counts


def line_distance(first: FloatArray, second: FloatArray) -> float:
    """1-Wasserstein distance of two histograms, in classes: the area between the cumulative shares.

    SciPy's function gives the same, but importing it costs each message to a client a second.
    """
    return float(np.abs(np.cumsum(first / first.sum() - second / second.sum())).sum())


def _line_covariance(pooled: FloatArray) -> FloatArray:
    """Covariance of the cumulative shares of one sample: F_c (1 - F_d) for c <= d."""
    below = np.cumsum(pooled)[:-1]
    covariance: FloatArray = np.minimum.outer(below, below) * (1 - np.maximum.outer(below, below))
    return covariance


def _beyond_noise(distance: float, covariance: FloatArray) -> float:
    """Take the mean of the noise off a distance; 0 where the distance may be noise."""
    mean, deviation = noise_moments(covariance)
    return distance - mean if distance > mean + NOISE_DEVIATIONS * deviation else 0.0


def noise_moments(covariance: FloatArray) -> tuple[float, float]:
    r"""Mean and standard deviation of sum_c abs(X_c), X normal with mean 0 and this covariance.

    .. math:: E|X_c| = \sqrt{2 / \pi} \sigma_c, \quad
              E|X_c X_d| = \frac{2}{\pi} \sigma_c \sigma_d
                           (\sqrt{1 - \rho_{cd}^2} + \rho_{cd} \arcsin \rho_{cd})
    """
    deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    products = np.outer(deviations, deviations)
    correlations = np.divide(
        covariance, products, out=np.zeros_like(covariance), where=products > 0
    ).clip(-1, 1)
    mean = np.sqrt(2 / np.pi) * deviations.sum()
    curves = np.sqrt(1 - correlations**2) + correlations * np.arcsin(correlations)
    variance = (2 / np.pi * products * curves).sum() - mean**2
    return float(mean), float(np.sqrt(max(variance, 0.0)))
