"""The inputs of a linear layer, from its gradient alone: exact for small batches.

The gradients of a layer with weights W (m, d) and bias b (m,) over a batch of n inputs X (n, d) are

    G = D^T X        g = D^T 1

with D (n, m) the gradients in the layer's outputs. For n = 1 the input is g^T G / g^T g (Phong et
al. 2018). For more, G has rank n, and D^T = L Q for its left singular factor L and some Q (n, n).
Where a ReLU follows the layer, each row of D is zero for the units that a sample does not activate;
so the columns of Q are those combinations of L's columns that have many zeros. Each is found as the
null vector of n - 1 rows of L, drawn at random until they are units that the same sample leaves
alone; g fixes the scale (Dimitrov et al. 2024, "SPEAR", arXiv 2403.03945).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# Draws of rows in all; with half of the units silent, 8 samples need about 40 and 16 about 2,000.
DRAWS = 20_000
AT_ONCE = 500
# Below this share of a vector's largest entry an entry counts as zero.
ZERO = 1e-3
# Zeros beyond those that were asked for, which chance does not give.
SPARE = 3
# A unit vector whose part outside of the others is no longer than this depends on them.
APART = 0.05


def inputs_of_layer(
    weight: Matrix, bias: Matrix, count: int, rng: np.random.Generator
) -> Matrix | None:
    """Find a layer's inputs from its gradients.

    Parameters
    ----------
    weight : ndarray, shape (m, d)
        Gradient of the weights, the mean or sum over the batch.
    bias : ndarray, shape (m,)
        Gradient of the bias.
    count : int
        Inputs n of the batch.

    Returns
    -------
    ndarray, shape (n, d), or None
        The inputs in any order; None where they are not found.
    """
    active = np.abs(weight).max(axis=1) > 0
    weight, bias = weight[active], bias[active]
    if len(bias) < count or not bias.any():
        return None
    if count == 1:
        inputs: Matrix = (bias @ weight)[np.newaxis] / (bias @ bias)
        return inputs
    left, values, right = np.linalg.svd(weight, full_matrices=False)
    if len(values) < count or values[count - 1] <= 1e-9 * values[0]:
        return None
    left, right = left[:, :count] * values[:count], right[:count]
    mixing = _sparse_combinations(left, rng)
    if mixing is None:
        return None
    scale = np.linalg.lstsq(left @ mixing, bias, rcond=None)[0]
    if (np.abs(scale) < 1e-12).any():
        return None
    found: Matrix = np.linalg.solve(mixing, right) / scale[:, np.newaxis]
    return found


def _sparse_combinations(left: Matrix, rng: np.random.Generator) -> Matrix | None:
    """Return the n combinations (n, n), one a column, of L's columns that have the most zeros."""
    units, count = left.shape
    # Rows of one length: small ones would pass as zeros.
    rows = left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-300)
    vectors, zeros = [], []
    for _ in range(DRAWS // AT_ONCE):
        drawn = np.argsort(rng.random((AT_ONCE, units)), axis=1)[:, : count - 1]
        _, values, right = np.linalg.svd(rows[drawn])
        single = right[values[:, -1] > ZERO, -1]  # of rows that depend on each other there are many
        shares = np.abs(single @ rows.T)
        vectors.append(single)
        zeros.append((shares < ZERO * shares.max(axis=1, keepdims=True)).sum(axis=1))
    every, number = np.concatenate(vectors), np.concatenate(zeros)
    enough = number >= count - 1 + SPARE
    return _independent(every[enough][np.argsort(-number[enough], kind="stable")])


def _independent(vectors: Matrix) -> Matrix | None:
    """Return the first vectors (k, n), one a column, of which none depends on those before it."""
    count = vectors.shape[1]
    taken: list[Matrix] = []
    outside = np.eye(count)  # projects onto what those taken do not span
    while len(taken) < count:
        apart = np.linalg.norm(vectors @ outside, axis=1) > APART
        if not apart.any():
            return None
        taken.append(vectors[int(np.argmax(apart))])
        basis = np.linalg.qr(np.array(taken).T)[0]
        outside = np.eye(count) - basis @ basis.T
    return np.array(taken).T
