"""The class-conditional view: whether the classes that two clients share look alike.

Eq. 6 of arXiv 2602.23504 adds up two things: how unlike the samples of shared classes are, and 90
degrees for each class that only one of two clients has. Where clients hold classes by chance the
second drowns the first. Here the first stands alone, and is made as sharp as the profiles allow:

1. An angle between two clients' vectors of a class (Eq. 4) is partly noise, the more the fewer
   samples they have. The noise of a class is found from each client's nearest peer, and taken out.
   What still grows as noise does is found over all classes and taken out too: small clients are
   far from everybody in every class, and would pass for another kind.
2. Classes are averaged with the precision that their counts give them.
3. Whether the average says anything is measured, not assumed: its *reliability* is the intraclass
   correlation of the angles over the classes that two clients share. If clients differ in how
   their classes look, two that differ in one class tend to differ in another, and it is well above
   0; if what differs is noise, one class knows nothing of another, and it is about 0.
4. Pairs that share few classes are drawn towards the mean as far as the reliability says
   (empirical Bayes), pairs that share none lie on it.
5. Two clients are compared by their whole rows, how far they are from everybody, which tells
   clients apart that share no class.
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

MIN_HOLDERS = 10
"""Clients that hold a class, at least, for a nearest peer to tell the noise of its angles."""

EQUAL_SIZES = 1e-9
"""Variance of the noises' sizes within classes up to which it is rounding, as a share of their
mean square."""


@dataclass(frozen=True, eq=False)
class ClassConditionalDistance:
    r"""What N clients' angles say of their noise and reliability: measures others the same way.

    Attributes
    ----------
    noise : ndarray, shape (C,)
        :math:`\sigma_c`, degrees: the noise of an angle between clients with :math:`n_i` and
        :math:`n_j` samples of the class is :math:`\sigma_c \sqrt{1/n_i + 1/n_j}`.
    noise_left : float
        What corrected angles still grow by with :math:`\sqrt{1/n_i + 1/n_j}`, degrees, at least
        0: the slope of a straight line through those of each class, one for all classes.
    class_means : ndarray, shape (C,)
        Mean corrected angle of each class less that slope's part, degrees; of all classes where no
        two clients share it.
    mean : float
        Mean corrected angle over all pairs and the classes that they share, degrees.
    reliability : float
        Intraclass correlation of a pair's angles over its classes, in [0, 1].
    certain : float
        Its lower 95 % confidence limit, in [0, 1], where clients and not pairs count as
        independent: what is left of it when there are few clients.
    """

    noise: FloatArray
    noise_left: float
    class_means: FloatArray
    mean: float
    reliability: float
    certain: float

    @classmethod
    def of(
        cls, angles: npt.NDArray[np.floating], counts: npt.ArrayLike
    ) -> tuple[ClassConditionalDistance, FloatArray]:
        """Measure clients against each other.

        Parameters
        ----------
        angles : ndarray, shape (C, N, N)
            V' of Eq. 4, degrees.
        counts : array_like of int, shape (N, C)
            Samples of each class on each client; 0 also where they are not seen, see
            `feddag_flwr.similarity.subspace.seen_counts`.

        Returns
        -------
        ClassConditionalDistance
        ndarray, shape (N, N)
            Mean angle of each pair, drawn towards `mean`, degrees; 0 on the diagonal.

        Raises
        ------
        ValueError
            If a shape or the counts are out of their domain.
        """
        count_array = checked_counts(counts)
        angle_array = checked_angles(angles, *count_array.shape)
        noise = class_noise(angle_array, count_array)
        noise_left, class_means, mean = _line(angle_array, count_array, noise)
        sums = _Sums.of(angle_array, count_array, count_array, noise, noise_left, class_means)
        fitted = _levels(count_array > 0, sums.shared) + (noise_left > 0.0)
        found = cls(noise, noise_left, class_means, mean, *sums.reliability(fitted))
        pairs = sums.shrunk(mean, found.reliability)
        np.fill_diagonal(pairs, 0.0)
        return found, pairs

    def rows(
        self,
        angles: npt.NDArray[np.floating],
        newcomer_counts: npt.ArrayLike,
        counts: npt.ArrayLike,
    ) -> FloatArray:
        """Mean angles (M, N) of newcomers to the N clients, drawn towards the same mean.

        Parameters
        ----------
        angles : ndarray, shape (C, M, N)
            V' between newcomers and clients, degrees.
        newcomer_counts, counts : array_like of int, shapes (M, C) and (N, C)
            Samples of each class, as `of` takes them.
        """
        arriving, here = checked_counts(newcomer_counts), checked_counts(counts)
        sums = _Sums.of(angles, arriving, here, self.noise, self.noise_left, self.class_means)
        return sums.shrunk(self.mean, self.reliability)


def row_distances(left: npt.ArrayLike, right: npt.ArrayLike, same: bool = False) -> FloatArray:
    r"""Compare clients by their rows: root mean square difference over all others.

    .. math:: R_{ij} = \sqrt{\frac{1}{K} \sum_{k \ne i, j} (L_{ik} - L_{jk})^2}

    Parameters
    ----------
    left, right : array_like, shapes (M, N) and (R, N)
        Mean angles to N clients, degrees.
    same : bool
        Both are the N clients themselves: then k runs over the N - 2 others, and the result is
        symmetric with a diagonal of 0. Else the first N of `right` are the clients, `left` are
        others, and k leaves out j alone.

    Returns
    -------
    ndarray, shape (M, R)
        Degrees.
    """
    one, two = (np.asarray(each, dtype=np.float64) for each in (left, right))
    clients = one.shape[1]
    squares = np.einsum("ik,ik->i", one, one)[:, None] + np.einsum("jk,jk->j", two, two)
    squares -= 2.0 * one @ two.T
    if same:  # k = i and k = j each give (L_ij - 0)^2
        squares -= 2.0 * one**2
        left_out = 2
    else:  # k = j gives L_ij^2, where j is one of the N
        squares[:, :clients] -= one**2
        left_out = 1
    others = np.full(squares.shape, max(1, clients - left_out), dtype=np.float64)
    if not same:
        others[:, clients:] = clients
    distances: FloatArray = np.sqrt(np.maximum(squares, 0.0) / others)
    if same:
        distances = (distances + distances.T) / 2.0
        np.fill_diagonal(distances, 0.0)
    return distances


def class_noise(angles: AngleArray, counts: IntArray) -> FloatArray:
    """Noise of each class's angles (C,), degrees at one sample.

    See `ClassConditionalDistance.noise`.

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
    inverse: FloatArray = 1.0 / left[:, None] + 1.0 / right
    return inverse


def _corrected(
    angles: npt.NDArray[np.floating], inverse: FloatArray, noise: np.float64
) -> FloatArray:
    """Angles without their noise, whose squares add up."""
    squares = angles.astype(np.float64) ** 2 - noise**2 * inverse
    corrected: FloatArray = np.sqrt(np.maximum(squares, 0.0))
    return corrected


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
    of, holders = held.astype(np.float64), held.sum(axis=0)
    used = np.triu(shared >= 2.0, 1).astype(np.float64)
    known, every = ((used.T @ of) * of).sum(axis=0), holders * (holders - 1) / 2.0
    shares = np.divide(known, every, out=np.zeros_like(known), where=every > 0.0)
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
        found, limit = (
            float((between - at * within) / (between + (number - 1.0) * at * within))
            for at in (1.0, quantile)
        )
        return min(found, 1.0), min(max(0.0, limit), 1.0)

    def shrunk(self, mean: float, reliability: float) -> FloatArray:
        """Return each pair's angle: `mean`, and as much of its own deviation as can be relied on.

        By Spearman and Brown k classes of reliability r have k r / (1 + (k - 1) r) together; k is
        the number of equally precise classes that would be as precise.
        """
        known = self.weight > 0.0
        number = np.zeros_like(self.weight)
        np.divide(self.weight**2, self.weight_square, out=number, where=known)
        deviation = np.zeros_like(self.weight)
        np.divide(self.weighted_value, self.weight, out=deviation, where=known)
        trust = number * reliability
        np.divide(trust, 1.0 + (number - 1.0) * reliability, out=trust, where=known)
        shrunk: FloatArray = np.maximum(mean + trust * deviation, 0.0)
        return shrunk
