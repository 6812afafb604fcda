"""Eq. 3: angles between sparse updates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feddag_flwr.similarity import matrices
from feddag_flwr.similarity.gradient import gradient_dissimilarity

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def slow_angle(a, b):
    """Eq. 3 for one pair in plain Python."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    cosine = dot / (math.hypot(*map(float, a)) * math.hypot(*map(float, b)))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def test_hand_worked_angles():
    # (1, 0) and (3, 3): cos = 3 / (1 * 3 sqrt 2) = 1 / sqrt 2, 45 degrees.
    # (1, 0) and (-2, 0): cos = -1, 180 degrees: opposite updates are not alike (no |.| in Eq. 3).
    # (3, 3) and (-2, 0): cos = -1 / sqrt 2, 135 degrees.
    # (0, 5) and (1, 0): 90 degrees; and (3, 3): 45; and (-2, 0): 90.
    expected = [[0, 45, 180, 90], [45, 0, 135, 45], [180, 135, 0, 90], [90, 45, 90, 0]]
    angles = gradient_dissimilarity([[1.0, 0.0], [3.0, 3.0], [-2.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(angles, expected, atol=1e-5)
    assert angles.dtype == np.float64


@pytest.mark.parametrize("block_entries", [1, 40, 1 << 20])
def test_agrees_with_plain_python(monkeypatch, block_entries):
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", block_entries)
    updates = np.random.default_rng(1).standard_normal((13, 7))
    angles = gradient_dissimilarity(updates)
    for i in range(13):
        for j in range(13):
            expected = 0.0 if i == j else slow_angle(updates[i], updates[j])
            assert angles[i, j] == pytest.approx(expected, abs=1e-9)


@quick
@given(seeds, st.integers(1, 12), st.integers(1, 9))
def test_symmetric_zero_diagonal_in_range_and_blind_to_scale_and_order(seed, clients, k):
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((clients, k))
    angles = gradient_dissimilarity(updates)
    assert np.array_equal(angles, angles.T)
    assert not angles.diagonal().any()
    assert angles.min() >= 0.0
    assert angles.max() <= 180.0
    order = rng.permutation(clients)
    np.testing.assert_allclose(
        gradient_dissimilarity(updates[order]), angles[np.ix_(order, order)], atol=1e-5
    )
    scaled = updates * rng.uniform(0.1, 10.0, (clients, 1))
    np.testing.assert_allclose(gradient_dissimilarity(scaled), angles, atol=1e-5)


def test_clients_alike_are_zero_apart():
    angles = gradient_dissimilarity(np.tile(np.random.default_rng(2).standard_normal(500), (4, 1)))
    np.testing.assert_allclose(angles, 0.0, atol=1e-5)


def test_single_client():
    assert gradient_dissimilarity([[1.0, 2.0]]).tolist() == [[0.0]]


def test_extreme_lengths_neither_overflow_nor_vanish():
    angles = gradient_dissimilarity([[1e300, 0.0], [1e300, 1e300], [0.0, 1e-300]])
    np.testing.assert_allclose(angles, [[0, 45, 90], [45, 0, 45], [90, 45, 0]], atol=1e-5)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_update_without_direction_names_the_client(bad):
    updates = [[1.0, 0.0], [bad, 0.0], [0.0, 1.0]]
    with pytest.raises(ValueError, match=r"client bob$"):
        gradient_dissimilarity(updates, ["alice", "bob", "carol"])
    with pytest.raises(ValueError, match=r"client number 1$"):
        gradient_dissimilarity(updates)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (2, 2, 2)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match="shape"):
        gradient_dissimilarity(np.ones(shape))
