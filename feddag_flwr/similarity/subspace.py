"""Class-wise data dissimilarity of clients (Sec. 3.2, Eq. 4 to 6; Appendix A.2, Eq. 23).

`class_angles` compares two clients class by class through the leading singular vectors of their
samples; `data_dissimilarity` sums the classes up with weights for how unlike their counts are.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import (
    BLOCK_ENTRIES,
    AngleArray,
    FloatArray,
    IntArray,
    checked_angles,
    checked_counts,
    row_blocks,
)

Angle = Literal["vectors", "principal"]  # between two basis vectors (Eq. 4), or the spans (Eq. 23)
Scope = Literal["shared", "all"]  # classes that both clients have, or, as in the paper, all
BLOCKS = 8  # of rows, at least, of angles that are not computed at once (cost)
RIGHT_ANGLE = 90.0  # degrees between two clients of whom only one has the class


def class_angles(
    bases: npt.ArrayLike, counts: npt.ArrayLike, angle: Angle = "vectors"
) -> AngleArray:
    r"""Angles between the clients' data of each class, V' of Eq. 4 in arXiv 2602.23504.

    .. math:: V'_{ijc} = \min_{v \in U_{ic},\, x \in U_{jc}} \arccos \frac{|v \cdot x|}{|v||x|}

    A class that only one of two clients has puts them 90 degrees apart, one that neither has 0.

    Parameters
    ----------
    bases : array_like of shape (N, C, p, d)
        The p leading left singular vectors of each client's class, as rows; rows of zeros where a
        client has fewer than p.
    counts : array_like of int, shape (N, C)
        Samples of each class on each client; bases of a class with no samples are ignored.
    angle : {"vectors", "principal"}
        ``"vectors"`` is Eq. 4 as written. ``"principal"`` is Eq. 23, the smallest principal angle
        between the two spans, arccos of the largest singular value of :math:`U_{ic}^T U_{jc}`;
        the non-zero rows of a basis must then be orthonormal.

    Returns
    -------
    ndarray of float32, shape (C, N, N)
        Degrees in [0, 90]; exactly symmetric, exactly 0 on the diagonal; 90 where both clients
        have the class but one of them has no non-zero vector. Products are formed in double
        precision: equal vectors come out some 1e-6 degrees apart, in single precision some 0.03.
    """
    clients, classes = _checked_bases(bases, counts)[1].shape
    angles = np.empty((classes, clients, clients), dtype=np.float32)
    for of_class, computed in zip(angles, angles_by_class(bases, counts, angle), strict=True):
        of_class[...] = computed
    return angles


def angles_by_class(
    bases: npt.ArrayLike, counts: npt.ArrayLike, angle: Angle = "vectors"
) -> Iterator[AngleArray]:
    """Yield V' of `class_angles` class by class, (N, N) each: not all are in memory at once."""
    basis_array, count_array = _checked_bases(bases, counts)
    clients, classes = count_array.shape
    for label in range(classes):
        angles = np.empty((clients, clients), dtype=np.float32)
        present = count_array[:, label] > 0
        np.multiply(present[:, None] | present[None, :], RIGHT_ANGLE, out=angles)
        vectors, members = _unit_vectors(basis_array[:, label], present, label)
        if angle == "principal":
            _check_orthonormal(vectors, members, label)
        _fill_class(angles, vectors, members, angle)
        np.fill_diagonal(angles, 0.0)
        yield angles


def class_angles_to(
    newcomer_bases: npt.ArrayLike,
    newcomer_counts: npt.ArrayLike,
    bases: npt.ArrayLike,
    counts: npt.ArrayLike,
    angle: Angle = "vectors",
) -> AngleArray:
    """Rows (C, M, N) of V' (Eq. 4) between newcomers and clients, by the rules of `class_angles`.

    The bases (M, C, q, d) and (N, C, p, d) have the same C and d; q need not be p.
    """
    left_bases, left_counts = _checked_bases(newcomer_bases, newcomer_counts)
    right_bases, right_counts = _checked_bases(bases, counts)
    if (left_bases.shape[1], left_bases.shape[3]) != (right_bases.shape[1], right_bases.shape[3]):
        raise ValueError(
            f"newcomers and clients must have the same C and d, got bases of shape "
            f"{left_bases.shape} and {right_bases.shape}"
        )
    classes = left_counts.shape[1]
    angles = np.empty((classes, len(left_counts), len(right_counts)), dtype=np.float32)
    for label in range(classes):
        here, there = left_counts[:, label] > 0, right_counts[:, label] > 0
        np.multiply(here[:, None] | there[None, :], RIGHT_ANGLE, out=angles[label])
        left, arriving = _unit_vectors(left_bases[:, label], here, label)
        right, members = _unit_vectors(right_bases[:, label], there, label)
        if angle == "principal":
            _check_orthonormal(left, arriving, label)
            _check_orthonormal(right, members, label)
        for rows in row_blocks(len(arriving), len(members) * len(left) * len(right)):
            cosines = _cosines(left[:, rows], right, angle)
            block = np.degrees(np.arccos(np.minimum(cosines, 1.0)))
            angles[label][np.ix_(arriving[rows], members)] = block
    return angles


def seen_counts(bases: npt.NDArray[np.floating], counts: npt.NDArray[np.integer]) -> IntArray:
    """Return the samples (N, C) of classes that clients sent vectors of; 0 of those kept back.

    An angle to vectors that are not there stands at 90 degrees in V' (`class_angles`), as if the
    class had been seen to look altogether different.
    """
    return np.where(bases.any(axis=(2, 3)), counts, 0)


def _checked_bases(
    bases: npt.ArrayLike, counts: npt.ArrayLike
) -> tuple[npt.NDArray[np.generic], IntArray]:
    """Return bases (N, C, p, d) and counts (N, C) as arrays of shapes that agree, or raise."""
    basis_array, count_array = np.asarray(bases), checked_counts(counts)
    if basis_array.ndim != 4 or basis_array.shape[:2] != count_array.shape:
        raise ValueError(
            f"bases must have shape (N, C, p, d) with (N, C) = {count_array.shape} "
            f"to go with the counts, got {basis_array.shape}"
        )
    if 0 in basis_array.shape:
        raise ValueError(f"bases must have p and d >= 1, got shape {basis_array.shape}")
    return basis_array, count_array


def _unit_vectors(
    bases: npt.NDArray[np.generic], present: npt.NDArray[np.bool_], label: int
) -> tuple[FloatArray, IntArray]:
    """Collect unit vectors (p, M, d) of one class's M clients that have any, and who these are."""
    members = np.flatnonzero(present)
    vectors = np.ascontiguousarray(bases[members].swapaxes(0, 1), dtype=np.float64)
    lengths = np.sqrt(np.einsum("amd,amd->am", vectors, vectors))
    if not np.all(np.isfinite(lengths)):
        client = members[np.flatnonzero(~np.isfinite(lengths).all(axis=0))[0]]
        raise ValueError(f"the basis of client number {client}, class {label}, is not finite")
    filled = (lengths > 0.0).any(axis=0)
    if not filled.all():
        vectors, lengths, members = vectors[:, filled], lengths[:, filled], members[filled]
    vectors /= np.where(lengths > 0.0, lengths, 1.0)[:, :, None]
    return vectors, members


def _check_orthonormal(vectors: FloatArray, members: IntArray, label: int) -> None:
    """Raise ValueError where two vectors of one client are not at a right angle."""
    gram = np.abs(np.einsum("amd,bmd->mab", vectors, vectors))
    off_diagonal = gram * ~np.eye(len(vectors), dtype=bool)
    # Single-precision singular vectors are orthogonal to about 1e-6.
    skew = np.flatnonzero(off_diagonal.max(axis=(1, 2), initial=0.0) > 1e-3)
    if skew.size:
        raise ValueError(
            f"the basis of client number {members[skew[0]]}, class {label}, is not orthonormal, "
            "which a principal angle needs"
        )


def _fill_class(angles: AngleArray, vectors: FloatArray, members: IntArray, angle: Angle) -> None:
    """Write the angles between all `members` into one class's (N, N) matrix, block by block."""
    everyone = len(members) == len(angles)
    per_client, clients, _ = vectors.shape
    # Products gain from larger blocks than entry-wise work does, most of all on a busy machine; but
    # where one is not enough, of few blocks nearly all would be computed twice.
    columns = clients * per_client**2 // 8
    if columns * clients > BLOCK_ENTRIES:
        columns = max(columns, BLOCKS * BLOCK_ENTRIES // clients)
    for rows in row_blocks(clients, columns):
        cosines = _cosines(vectors[:, rows], vectors[:, rows.start :], angle)
        np.minimum(cosines, 1.0, out=cosines)
        np.arccos(cosines, out=cosines)
        block = np.degrees(cosines, out=cosines).astype(np.float32)
        # A block covers the columns from its own first row on: the rest follows by symmetry.
        corner = block[:, : block.shape[0]]
        corner[...] = np.minimum(corner, corner.T.copy())
        if everyone:
            angles[rows, rows.start :] = block
            angles[rows.stop :, rows] = block[:, block.shape[0] :].T
        else:
            here, there = members[rows], members[rows.start :]
            angles[np.ix_(here, there)] = block
            angles[np.ix_(there, here)] = block.T


def _cosines(left: FloatArray, right: FloatArray, angle: Angle) -> FloatArray:
    """Cosines (n, m) of the angles between clients with unit vectors (p, n, d) and (q, m, d)."""
    products = _products(left, right)
    if angle == "vectors" or products.shape[0] == products.shape[2] == 1:
        return _largest_magnitude(products)
    return _largest_singular_value(products)


def _products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Multiply all vectors of all pairs: (p, n, d), (q, m, d) -> (p, n, q, m).

    One large product: for p x p small ones the threads of a busy machine wait for each other.
    """
    features = left.shape[-1]
    products: FloatArray = left.reshape(-1, features) @ right.reshape(-1, features).T
    return products.reshape(*left.shape[:2], *right.shape[:2])


def _largest_magnitude(products: FloatArray) -> FloatArray:
    """Find the largest abs(v . x) of each pair: (p, n, q, m) -> (n, m)."""
    np.abs(products, out=products)
    largest: FloatArray = products[0, :, 0].copy()
    for a, b in np.ndindex(products.shape[0], products.shape[2]):
        np.maximum(largest, products[a, :, b], out=largest)
    return largest


def _largest_singular_value(products: FloatArray) -> FloatArray:
    """Find the largest singular value of each U_i^T U_j: (p, n, q, m) -> (n, m)."""
    pairs = products.transpose(1, 3, 0, 2)
    # The square is the largest eigenvalue of M^T M, found in half the time of the singular values
    # and as exactly: squaring costs digits of the small ones only.
    squares = np.linalg.eigvalsh(pairs.swapaxes(2, 3) @ pairs)[:, :, -1]
    largest: FloatArray = np.sqrt(np.maximum(squares, 0.0))
    return largest


def data_dissimilarity(
    angles: npt.NDArray[np.floating],
    counts: npt.ArrayLike,
    delta: float = 0.6,
    scope: Scope = "shared",
) -> FloatArray:
    r"""Weighted mean of the class-wise angles, V of Eq. 6 in arXiv 2602.23504.

    .. math:: V_{ij} = \frac{1}{C} \sum_c V'_{ijc} W'_{ijc}, \qquad
              W_{ijc} = \frac{\max(\ln(n_{ic} + e), \ln(n_{jc} + e))}
                             {\min(\ln(n_{ic} + e), \ln(n_{jc} + e))}

    W' (Eq. 5) is W min-max normalised: a class in which two clients have very different counts
    weighs more. It is 1 everywhere when all ratios are equal.

    Parameters
    ----------
    angles : ndarray of shape (C, N, N)
        V' of `class_angles`, degrees.
    counts : array_like of int, shape (N, C)
        Samples of each class on each client.
    delta : float
        Width of the range of weights, :math:`\delta` of Eq. 5, in [0, 1].
    scope : {"shared", "all"}
        ``"shared"``: classes that both clients have, minimum and maximum taken over these, range
        [1, 1 + delta], weight 1 elsewhere. ``"all"``: the paper's text, every class, range
        [1 - delta, 1 + delta].

    Returns
    -------
    ndarray of shape (N, N)
        Degrees in [0, 90 (1 + delta)]; exactly symmetric, 0 on the diagonal.
    """
    count_array = checked_counts(counts)
    clients, classes = count_array.shape
    angle_array = checked_angles(angles, clients, classes)
    weighing = _Weighing(count_array, delta, scope)
    total = np.zeros((clients, clients))
    for rows in row_blocks(clients, clients):
        for label in range(classes):
            total[rows] += weighing.block(label, rows) * angle_array[label, rows]
    total /= classes
    return total


def data_dissimilarity_to(
    angles: npt.NDArray[np.floating],
    newcomer_counts: npt.ArrayLike,
    counts: npt.ArrayLike,
    delta: float = 0.6,
    scope: Scope = "shared",
    founders: int | None = None,
) -> FloatArray:
    """Weighted mean of newcomers' class-wise angles to those before them: rows (M, N) of V (Eq. 6).

    The weights of Eq. 5 are min-max normalised with the minimum and maximum of the clustered
    clients, and clipped to the range. Of the N, the first `founders`, by default all, were
    clustered and the others placed since. V' (C, M, N) is that of `class_angles_to`; all else is as
    in `data_dissimilarity`.
    """
    arriving, count_array = checked_counts(newcomer_counts), checked_counts(counts)
    expected = (count_array.shape[1], len(arriving), len(count_array))
    if arriving.shape[1] != count_array.shape[1] or np.shape(angles) != expected:
        raise ValueError(
            f"angles must have shape (C, M, N) = {expected} to go with counts of "
            f"{arriving.shape[1]} and {count_array.shape[1]} classes, got {np.shape(angles)}"
        )
    weighing = _Weighing(count_array, delta, scope, founders)
    total = np.zeros(expected[1:])
    for label in range(expected[0]):
        total += weighing.rows(label, arriving[:, label]) * angles[label]
    total /= expected[0]
    return total


class _Weighing:
    """Eq. 5 with its minimum and maximum known, so that weights can be formed by row blocks."""

    def __init__(
        self, counts: IntArray, delta: float, scope: Scope, founders: int | None = None
    ) -> None:
        self._scope = scope
        self._logs, self._weighed = self._logs_of(counts)
        self._low, self._high = self._ratio_range(slice(founders))
        self._base, self._width = (1.0, delta) if scope == "shared" else (1.0 - delta, 2.0 * delta)

    def _logs_of(self, counts: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Logarithms of counts, and which of them are weighed."""
        # e added: every logarithm is at least 1, so that the ratio exists for n = 0 too.
        shared = self._scope == "shared"
        return np.log(counts + np.e), counts > 0 if shared else np.ones_like(counts, dtype=bool)

    def _ratio_range(self, founders: slice) -> tuple[float, float]:
        """Smallest and largest ratio over the weighed (i, j != i, c): O(N log N) by sorting."""
        low, high = np.inf, -np.inf
        of_founders = self._logs[founders].T, self._weighed[founders].T
        for logs, weighed in zip(*of_founders, strict=True):
            ordered = np.sort(logs[weighed])
            if ordered.size > 1:
                low = min(low, float(np.min(ordered[1:] / ordered[:-1])))
                high = max(high, float(ordered[-1] / ordered[0]))
        return low, high

    def block(self, label: int, rows: slice) -> FloatArray:
        """Weights of one class between the clients `rows` and all clients."""
        weights = self._weights(label, self._logs[rows, label], self._weighed[rows, label])
        weights[np.arange(weights.shape[0]), np.arange(rows.start, rows.stop)] = 1.0
        return weights

    def rows(self, label: int, counts: IntArray) -> FloatArray:
        """Weights of one class between newcomers with `counts` (M,) of it and all clients."""
        weights = self._weights(label, *self._logs_of(counts))
        # A newcomer's ratio may lie outside the clients' range.
        return np.clip(weights, self._base, self._base + self._width, out=weights)

    def _weights(self, label: int, logs: FloatArray, weighed: npt.NDArray[np.bool_]) -> FloatArray:
        others, others_weighed = self._logs[:, label], self._weighed[:, label]
        if not self._high > self._low:
            return np.ones((len(logs), len(others)))
        weights: FloatArray = np.maximum(logs[:, None], others)
        weights /= np.minimum(logs[:, None], others)
        weights -= self._low
        weights /= self._high - self._low  # at most 1 exactly, as the widest ratio gives 1
        weights *= self._width
        weights += self._base
        weights[~(weighed[:, None] & others_weighed)] = 1.0
        return weights
