"""Fusion of gradient and data dissimilarity with a weight a client (Sec. 3.3, Eq. 7 and 8).

G and V (N, N) are what `normalisation` made of them, in [0, 1]; that is checked there, not here.
"""

import numpy as np
from scipy.special import expit

from feddag_flwr.similarity.matrices import FloatArray, row_blocks

STEP_SIZE = 10.0  # logits per nat


def fuse(gradient: FloatArray, data: FloatArray, weights: FloatArray) -> FloatArray:
    r"""Fused dissimilarity (N, N) of the clients, in [0, 1]: A of Eq. 7.

    .. math:: A_{ij} = A_{ji} = w_i G_{ij} + (1 - w_i) V_{ij} \quad (i < j), \qquad A_{ii} = 0

    The weight, in [0, 1], is that of the client who comes first, so the order of the clients
    matters unless all weights (N,) are equal.

    Examples
    --------
    >>> one, other = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 0.5], [0.5, 0.0]])
    >>> fuse(one, other, np.array([0.5, 0.9]))
    array([[0.  , 0.75],
           [0.75, 0.  ]])
    """
    fused = np.empty_like(gradient)
    for rows in row_blocks(*fused.shape):
        weight = _weight_of_the_first(weights, rows)
        fused[rows] = weight * gradient[rows] + (1.0 - weight) * data[rows]
    return fused


def learn_fusion_weights(gradient: FloatArray, data: FloatArray, *, steps: int = 30) -> FloatArray:
    r"""Learn w (N,) by gradient descent on the mean row entropy (Eq. 8) of the fused dissimilarity.

    .. math:: \frac{1}{N} \sum_i H(\mathrm{softmax}(A_{i \cdot}))

    Each client's weight is the logistic function of a logit that starts at 0, w = 0.5. Every step
    moves all logits against the gradient of N times Eq. 8 (its sum over rows, so that a step
    does not shrink as clients are added) by `STEP_SIZE`. Nothing is random. The last client's
    weight never enters Eq. 7 and stays 0.5.

    The descent stops early on purpose, far from the minimum. Eq. 8 rewards rows that vary, by
    whatever means. At its minimum nearly every weight is 0 or 1, so that the fusion no longer
    averages; and where the levels of G and V differ, some weights go to 0 and others to 1 merely
    to mix two levels in a row, a pattern that follows the order of the clients. Only the product
    steps x `STEP_SIZE` counts: 300 by default, the best on simulated groups with one metric clear
    and the other clear, noisy or empty; 500 and 1000 were far worse in their worst case. Nor can
    Eq. 8 tell structure from noise: uniform noise has more varied rows than clear groups.
    """
    logits = np.zeros(len(gradient))
    for _ in range(steps):
        weights = expit(logits)
        slope = entropy_gradient(gradient, data, weights)
        logits -= STEP_SIZE * len(logits) * slope * weights * (1.0 - weights)
    return np.asarray(expit(logits), dtype=np.float64)


def learn_newcomer_weights(
    gradient: FloatArray, data: FloatArray, fused: FloatArray, *, steps: int = 30
) -> FloatArray:
    """Learn the fusion weights (M,) of newcomers, the clients' weights held (Algorithm 4).

    For each newcomer the descent of `learn_fusion_weights` on the mean row entropy (Eq. 8) of the
    (N + 1, N + 1) matrix that its row and column make of A, with its own weight alone free. The
    newcomer counts as the first client of Eq. 7: as the last its weight would have no say.
    Newcomers do not see each other. Their rows (M, N) of G and V are on the scale of the clustered
    clients, whose A is `fused` (N, N). A step is O(N) a newcomer.
    """
    sums, moments = _softmax_sums(fused)
    difference = gradient - data
    logits = np.zeros(len(gradient))
    for _ in range(steps):
        weights = expit(logits)
        entries = data + weights[:, None] * difference
        powers = np.exp(entries)
        own_sums = 1.0 + powers.sum(axis=1, keepdims=True)  # 1: the newcomer's own entry, 0
        own_means = np.einsum("ij,ij->i", powers, entries)[:, None] / own_sums
        # dH / dA of an entry, as in `entropy_gradient`: in the newcomer's row and its column.
        slopes = powers / own_sums * (entries - own_means)
        column_sums = sums + powers
        column_means = (moments + powers * entries) / column_sums
        slopes += powers / column_sums * (entries - column_means)
        slope = -np.einsum("ij,ij->i", slopes, difference)
        logits -= STEP_SIZE * slope * weights * (1.0 - weights)
    return np.asarray(expit(logits), dtype=np.float64)


def entropy_gradient(gradient: FloatArray, data: FloatArray, weights: FloatArray) -> FloatArray:
    r"""Return the derivative (N,) of the mean row entropy (Eq. 8) by the weights of Eq. 7, nats.

    With P the row-wise softmax of A, the entropy of row i changes with its entries as
    :math:`\partial H_i / \partial A_{ij} = -P_{ij} (A_{ij} - \sum_k P_{ik} A_{ik})`; the weight
    w_i moves the entries (i, j) and (j, i) for j > i, by G - V each.
    """
    clients = len(weights)
    columns = np.arange(clients)
    derivative = np.zeros(clients)
    for rows in row_blocks(clients, clients):
        difference = gradient[rows] - data[rows]
        fused = _weight_of_the_first(weights, rows) * difference
        fused += data[rows]
        softmax = np.exp(fused)
        softmax /= softmax.sum(axis=1)[:, None]
        fused -= np.einsum("ij,ij->i", softmax, fused)[:, None]
        softmax *= fused
        softmax *= difference
        after = columns > columns[rows, None]
        derivative[rows] -= np.einsum("ij,ij->i", softmax, after)
        derivative -= np.einsum("ij,ij->j", softmax, ~after)  # the diagonal is 0
    return derivative / clients


def _softmax_sums(proximity: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sum of exp a and of a exp a over each row (N,): what the softmax of a longer row needs."""
    sums, moments = np.empty(len(proximity)), np.empty(len(proximity))
    for rows in row_blocks(*proximity.shape):
        powers = np.exp(proximity[rows])
        sums[rows] = powers.sum(axis=1)
        moments[rows] = np.einsum("ij,ij->i", powers, proximity[rows])
    return sums, moments


def _weight_of_the_first(weights: FloatArray, rows: slice) -> FloatArray:
    """Weights (n, N) of whichever of row and column client comes first."""
    columns = np.arange(len(weights))
    earlier = columns < columns[rows, None]
    return np.where(earlier, weights, weights[rows, None])
