"""The class-conditional view: whether the classes that two clients share look alike.

Eq. 6 of arXiv 2602.23504 adds up two things: how unlike the samples of shared classes are, and 90
degrees for each class that only one of two clients has. Where clients hold classes by chance the
second drowns the first (docs/fusion.md). Here the first stands alone, as sharp as it can be:

1. An angle between two clients' vectors of a class (Eq. 4) is partly noise, the more the fewer
   samples they have. The noise of a class is found from each client's nearest peer, and taken out.
   What still grows as noise does is found over all classes and taken out too: small clients are
   far from everybody in every class, and would pass for another kind.
2. Classes are averaged with the precision that their counts give them.
3. The *reliability* of the average is measured: the intraclass correlation of the angles over the
   classes that two clients share. Two that differ in how one class looks tend to differ in another;
   if what differs is noise, one class knows nothing of another, and it is about 0.
4. Pairs are drawn towards the mean as far as the reliability, and the few classes that they share,
   say (empirical Bayes); pairs that share none lie on it.
5. Two clients are compared by their whole rows, which tells clients apart that share no class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import f as f_distribution

from feddag_flwr.similarity.matrices import (
    AngleArray,
    FloatArray,
    IntArray,
    checked_angles,
    checked_counts,
    row_blocks,
)

MIN_HOLDERS = 10  # clients of a class, for a nearest peer to tell the noise of its angles
EQUAL_SIZES = 1e-9  # variance of noises' sizes that is rounding, as a share of their mean square


@dataclass(frozen=True, eq=False)
class ClassConditionalDistance:
    r"""What N clients' angles say of their noise and reliability: measures others the same way.

    The noise of an angle between clients with :math:`n_i` and :math:`n_j` samples of class c is
    :math:`\sigma_c \sqrt{1/n_i + 1/n_j}`, degrees; a straight line through the corrected angles of
    each class, of one slope at least 0, says what they still grow by. Confidence counts clients and
    not pairs as independent.
    """

    noise: FloatArray  # (C,), sigma_c, degrees at one sample
    noise_left: float  # the slope, degrees
    class_means: FloatArray  # (C,), mean corrected angles less the slope's part, degrees
    mean: float  # of corrected angles, over all pairs and the classes that they share
    reliability: float  # intraclass correlation of a pair's angles, in [0, 1]
    certain: float  # its lower 95 % confidence limit

    @classmethod
    def of(
        cls, angles: npt.NDArray[np.floating], counts: npt.ArrayLike
    ) -> tuple[ClassConditionalDistance, FloatArray]:
        """Measure N clients against each other, by V' (C, N, N) of Eq. 4 and their counts (N, C).

        Counts are 0 also where classes are not seen, see `subspace.seen_counts`. Returned with the
        measure are the mean angles (N, N) of pairs, drawn towards `mean`; 0 on the diagonal.
        """
        count_array = checked_counts(counts)
        angle_array = checked_angles(angles, *count_array.shape)
        noise = class_noise(angle_array, count_array)
        noise_left, class_means, mean = _line(angle_array, count_array, noise)
        sums = _Sums.of(angle_array, count_array, count_array, noise, noise_left, class_means)
        fitted = _levels(count_array > 0, sums.shared) + (noise_left > 0.0)
        distance = cls(noise, noise_left, class_means, mean, *sums.reliability(fitted))
        pairs = sums.shrunk(mean, distance.reliability)
        np.fill_diagonal(pairs, 0.0)
        return distance, pairs

    def rows(
        self,
        angles: npt.NDArray[np.floating],
        newcomer_counts: npt.ArrayLike,
        counts: npt.ArrayLike,
    ) -> FloatArray:
        """Mean angles (M, N) of newcomers, drawn towards the same mean, from V' (C, M, N)."""
        arriving, here = checked_counts(newcomer_counts), checked_counts(counts)
        sums = _Sums.of(angles, arriving, here, self.noise, self.noise_left, self.class_means)
        return sums.shrunk(self.mean, self.reliability)


def row_distances(left: npt.ArrayLike, right: npt.ArrayLike, same: bool = False) -> FloatArray:
    r"""Compare clients by their rows: root mean square difference (M, R) over all others, degrees.

    .. math:: R_{ij} = \sqrt{\frac{1}{K} \sum_{k \ne i, j} (L_{ik} - L_{jk})^2}

    `left` (M, N) and `right` (R, N) are mean angles to N clients. Where they are the `same` N
    clients, k runs over the N - 2 others, and the result is symmetric with a diagonal of 0. Else
    the first N of `right` are the clients, `left` are others, and k leaves out j alone.
    """
    one, two = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    clients = one.shape[1]
    squares = np.einsum("ik,ik->i", one, one)[:, None] + np.einsum("jk,jk->j", two, two)
    squares -= 2.0 * one @ two.T
    others = np.full(squares.shape, float(clients))
    left_out = 2 if same else 1  # k = i and k = j each give (L_ij - 0)^2, where they are of the N
    squares[:, :clients] -= left_out * one**2
    others[:, :clients] = max(1, clients - left_out)
    distances: FloatArray = np.sqrt(np.maximum(squares, 0.0) / others)
    if same:
        distances = (distances + distances.T) / 2.0
        np.fill_diagonal(distances, 0.0)
    return distances


def class_noise(angles: AngleArray, counts: IntArray) -> FloatArray:
    """Noise of each class's angles (C,), degrees at one sample: `ClassConditionalDistance.noise`.

    Each client's nearest peer is taken to look like itself: the angle to it, over the square root
    of 1 / n_i + 1 / n_j, is noise. The median over the clients that hold the class; 0 where fewer
    than `MIN_HOLDERS` do, whose nearest peer may well be another kind.
    """
    noise = np.zeros(counts.shape[1])
    for label in range(counts.shape[1]):
        holders = np.flatnonzero(counts[:, label])
        if len(holders) < MIN_HOLDERS:
            continue
        nearest = np.empty(len(holders))
        for rows in row_blocks(len(holders), len(holders)):
            of_rows = holders[rows]
            scaled = angles[label][np.ix_(of_rows, holders)].astype(np.float64)
            scaled /= np.sqrt(_inverse_sizes(counts[of_rows, label], counts[holders, label]))
            scaled[np.arange(len(of_rows)), np.arange(rows.start, rows.stop)] = np.inf
            nearest[rows] = scaled.min(axis=1)
        noise[label] = np.median(nearest)
    return noise


def _inverse_sizes(left: IntArray, right: IntArray) -> FloatArray:
    """1 / n_i + 1 / n_j (M, N) of counts above 0."""
    return 1.0 / left[:, None] + 1.0 / right


def _corrected(
    angles: npt.NDArray[np.floating], inverse: FloatArray, noise: np.float64
) -> FloatArray:
    """Angles without their noise, whose squares add up."""
    squares = angles.astype(np.float64) ** 2 - noise**2 * inverse
    return np.sqrt(np.maximum(squares, 0.0))


def _line(
    angles: AngleArray, counts: IntArray, noise: FloatArray
) -> tuple[float, FloatArray, float]:
    """Fit corrected angles by the size of their noise: `noise_left`, `class_means` and `mean`.

    Least squares with a level for each class and one slope, which noise cannot make negative. A
    single client of another kind that is the smallest as well is taken for a noisy one; two of
    them, who are near each other, are not.
    """
    pairs, sums, sizes, squares, products = np.zeros((5, counts.shape[1]))
    for label in range(counts.shape[1]):
        holders = np.flatnonzero(counts[:, label])
        held = counts[holders, label]
        for rows in row_blocks(len(holders), len(holders)):
            inverse = _inverse_sizes(held[rows], held)
            value = _corrected(angles[label][np.ix_(holders[rows], holders)], inverse, noise[label])
            size = np.sqrt(inverse)
            # A client and itself are no pair; the angle between them is 0 already.
            size[np.arange(len(size)), np.arange(rows.start, rows.stop)] = 0.0
            sums[label] += value.sum()
            sizes[label] += size.sum()
            squares[label] += np.square(size).sum()
            products[label] += (size * value).sum()
        pairs[label] = len(holders) * (len(holders) - 1)
    known, in_all = np.maximum(pairs, 1.0), max(float(pairs.sum()), 1.0)
    spread = float((squares - sizes**2 / known).sum())
    slope = 0.0
    if spread > EQUAL_SIZES * squares.sum():
        slope = max(0.0, float((products - sizes * sums / known).sum()) / spread)
    mean, level = sums.sum() / in_all, (sums - slope * sizes).sum() / in_all
    class_means = np.where(pairs > 0.0, (sums - slope * sizes) / known, level)
    return slope, class_means, float(mean)


def _levels(held: npt.NDArray[np.bool_], shared: FloatArray) -> float:
    """Count the numbers that `class_means` take from the angles of pairs that share two classes.

    A level is that of all pairs of its class: those pairs pay for their share of it. As far as the
    levels are theirs they hold the mean over all, which is taken off anyway.
    """
    members, holders = held.astype(np.float64), held.sum(axis=0)
    used = np.triu(shared >= 2.0, 1).astype(np.float64)
    known, every = ((used.T @ members) * members).sum(axis=0), holders * (holders - 1) / 2.0
    shares = _ratio(known, every)
    return float(shares.sum() - (known @ shares) / max(float(known.sum()), 1.0))


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over the classes that two clients share, each (M, N).

    `weight` is the precision of a class, 1 / (1 / n_i + 1 / n_j); `value` its corrected angle less
    what noise has left in it and the mean of that class.
    """

    shared: FloatArray
    value: FloatArray
    square: FloatArray
    weight: FloatArray
    weight_square: FloatArray
    weighted_value: FloatArray

    @classmethod
    def of(
        cls,
        angles: npt.NDArray[np.floating],
        left: IntArray,
        right: IntArray,
        noise: FloatArray,
        noise_left: float,
        class_means: FloatArray,
    ) -> _Sums:
        """Add up the classes of clients with counts `left` (M, C) and `right` (N, C)."""
        sums = cls(*(np.zeros((len(left), len(right))) for _ in range(6)))
        for label in range(left.shape[1]):
            here, there = np.flatnonzero(left[:, label]), np.flatnonzero(right[:, label])
            for rows in row_blocks(len(here), len(there)):
                cells = np.ix_(here[rows], there)
                inverse = _inverse_sizes(left[here[rows], label], right[there, label])
                value = _corrected(angles[label][cells], inverse, noise[label])
                value -= noise_left * np.sqrt(inverse) + class_means[label]
                weight = 1.0 / inverse
                sums.shared[cells] += 1.0
                sums.value[cells] += value
                sums.square[cells] += value**2
                sums.weight[cells] += weight
                sums.weight_square[cells] += weight**2
                sums.weighted_value[cells] += weight * value
        return sums

    def reliability(self, fitted: float) -> tuple[float, float]:
        """Intraclass correlation, one-way with unequal numbers, of pairs that share two classes.

        (F - 1) / (F + k0 - 1) with F = MSB / MSW, cut at 0; 0 where there are fewer than two such
        pairs, or no more angles than it takes to fit a mean a pair and `fitted` numbers besides: of
        a class that one pair alone shares, nothing is left within. And the same of F over its 95 %
        quantile with n - 1 and (n - 1)(k0 - 1) degrees of freedom: n clients are in many such
        pairs, but have no more than that to say. Of fewer pairs than clients, n is the number of
        pairs; and no more count within than are left there.
        """
        used = np.triu(self.shared >= 2.0, 1)
        classes, value, square = self.shared[used], self.value[used], self.square[used]
        pairs, total = len(classes), classes.sum()
        free = total - pairs - fitted
        if pairs < 2 or free <= 0:
            return 0.0, 0.0
        own = value**2 / classes
        within = float((square - own).sum()) / free
        between = float(own.sum() - value.sum() ** 2 / total) / (pairs - 1)
        number = (total - (classes**2).sum() / total) / (pairs - 1)
        if between <= within:
            return 0.0, 0.0
        clients = int(np.count_nonzero(used.any(axis=0) | used.any(axis=1)))
        freedom = min(clients, pairs) - 1.0
        quantile = f_distribution.ppf(0.95, freedom, min(freedom * (number - 1.0), free))
        correlation, limit = (
            float((between - at * within) / (between + (number - 1.0) * at * within))
            for at in (1.0, quantile)
        )
        return min(correlation, 1.0), min(max(0.0, limit), 1.0)

    def shrunk(self, mean: float, reliability: float) -> FloatArray:
        """Return each pair's angle: `mean`, and as much of its own deviation as can be relied on.

        By Spearman and Brown k classes of reliability r have k r / (1 + (k - 1) r) together; k is
        the number of equally precise classes that would be as precise.
        """
        number = _ratio(self.weight**2, self.weight_square)
        deviation = _ratio(self.weighted_value, self.weight)
        trust = _ratio(number * reliability, 1.0 + (number - 1.0) * reliability)
        return np.maximum(mean + trust * deviation, 0.0)


def _ratio(one: FloatArray, other: FloatArray) -> FloatArray:
    """Divide; 0 where the divisor is 0."""
    return np.divide(one, other, out=np.zeros_like(one), where=other != 0.0)
