"""Eq. 4 and 23 (class-wise angles), 5 (frequency weights) and 6 (their weighted mean)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from feddag_flwr.similarity import matrices
from feddag_flwr.similarity.normalisation import normalise
from feddag_flwr.similarity.subspace import class_angles, data_dissimilarity

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def ray(degrees):
    """Unit vector of the plane at this angle."""
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def random_clients(rng, clients, classes, p, d):
    """Orthonormal bases, some shorter than p, and counts, some zero."""
    bases = np.zeros((clients, classes, p, d), dtype=np.float32)
    counts = rng.integers(0, 40, (clients, classes)) * (rng.random((clients, classes)) < 0.7)
    for i, c in zip(*np.nonzero(counts), strict=True):
        rank = min(p, counts[i, c], d)
        bases[i, c, :rank] = np.linalg.qr(rng.standard_normal((d, rank)))[0].T
    return bases, counts


def slow_class_angles(bases, counts, angle):
    """Eq. 4, or Eq. 23 by scipy.linalg.subspace_angles, pair by pair."""
    clients, classes = counts.shape
    result = np.zeros((classes, clients, clients))
    for c in range(classes):
        for i in range(clients):
            for j in range(clients):
                has_i, has_j = counts[i, c] > 0, counts[j, c] > 0
                if i == j or not (has_i or has_j):
                    continue
                result[c, i, j] = 90.0
                if not (has_i and has_j):
                    continue
                left = [v.astype(float) for v in bases[i, c] if v.any()]
                right = [x.astype(float) for x in bases[j, c] if x.any()]
                if angle == "principal":
                    radians = subspace_angles(np.array(left).T, np.array(right).T).min()
                    result[c, i, j] = math.degrees(radians)
                    continue
                for v in left:
                    for x in right:
                        cosine = abs(sum(a * b for a, b in zip(v, x, strict=True)))
                        cosine /= math.hypot(*v) * math.hypot(*x)
                        degrees = math.degrees(math.acos(min(1.0, cosine)))
                        result[c, i, j] = min(result[c, i, j], degrees)
    return result


def slow_weights(counts, delta, scope):
    """Eq. 5 with the ruling, in plain Python."""
    clients, classes = counts.shape
    ratios = {}
    for c in range(classes):
        for i in range(clients):
            for j in range(clients):
                both = counts[i, c] > 0 and counts[j, c] > 0
                if i != j and (both or scope == "all"):
                    logs = [math.log(counts[k, c] + math.e) for k in (i, j)]
                    ratios[c, i, j] = max(logs) / min(logs)
    low, high = min(ratios.values(), default=0.0), max(ratios.values(), default=0.0)
    bottom = 1.0 if scope == "shared" else 1.0 - delta
    result = np.ones((classes, clients, clients))
    for key, ratio in ratios.items():
        if high > low:
            result[key] = bottom + (1.0 + delta - bottom) * (ratio - low) / (high - low)
    return result


# Eq. 4


def test_hand_worked_smallest_angle_between_vectors():
    # Client 0 has the line at 0 degrees; client 1 those at 35 and 100 (a line at 80): 35 is nearer.
    # Client 2 has 170 (a line at 10 from client 0's; 45 and 70 from client 1's): 10 and 45.
    bases = np.zeros((3, 1, 2, 2), dtype=np.float32)
    bases[0, 0, 0] = ray(0)
    bases[1, 0] = [ray(35), ray(100)]
    bases[2, 0, 0] = ray(170)
    angles = class_angles(bases, np.ones((3, 1), dtype=int))
    np.testing.assert_allclose(angles[0], [[0, 35, 10], [35, 0, 45], [10, 45, 0]], atol=1e-5)
    assert angles.dtype == np.float32


def test_absent_classes_are_at_right_angles_or_not_counted():
    # Class 0: clients 0 and 1 have it; class 1: only client 2; class 2: nobody;
    # class 3: everybody, but client 1 sent no vector.
    counts = np.array([[5, 0, 0, 2], [1, 0, 0, 2], [0, 9, 0, 2]])
    bases = np.tile(np.array(ray(0), dtype=np.float32), (3, 4, 1, 1))
    bases[1, 3] = 0.0
    angles = class_angles(bases, counts)
    assert angles[0].tolist() == [[0, 0, 90], [0, 0, 90], [90, 90, 0]]
    assert angles[1].tolist() == [[0, 0, 90], [0, 0, 90], [90, 90, 0]]
    assert not angles[2].any()
    assert angles[3].tolist() == [[0, 90, 0], [90, 0, 90], [0, 90, 0]]


def test_principal_angle_sees_the_spans_where_vectors_do_not():
    # Client 0: e1. Client 1: (e1 + e2) / sqrt 2 and (e1 - e2) / sqrt 2, whose span holds e1.
    # Eq. 4: arccos(1 / sqrt 2) = 45 degrees. Eq. 23: U_0^T U_1 = (1, 1) / sqrt 2, whose singular
    # value is 1: 0 degrees.
    h = math.sqrt(0.5)
    bases = np.array([[[[1, 0, 0], [0, 0, 0]]], [[[h, h, 0], [h, -h, 0]]]], dtype=np.float32)
    counts = np.array([[1], [2]])
    assert class_angles(bases, counts)[0, 0, 1] == pytest.approx(45.0, abs=1e-4)
    assert class_angles(bases, counts, "principal")[0, 0, 1] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("angle", ["vectors", "principal"])
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("block_entries", [1, 60, 1 << 20])
def test_agrees_with_pair_by_pair(monkeypatch, angle, p, block_entries):
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", block_entries)
    bases, counts = random_clients(np.random.default_rng(p), 11, 3, p, 6)
    angles = class_angles(bases, counts, angle)
    np.testing.assert_allclose(angles, slow_class_angles(bases, counts, angle), atol=2e-4)
    assert np.array_equal(angles, angles.swapaxes(1, 2))


def test_equal_vectors_are_resolved_far_below_single_precision():
    vector = np.random.default_rng(0).standard_normal(784).astype(np.float32)
    vector /= np.linalg.norm(vector)
    angles = class_angles(np.tile(vector, (2, 1, 1, 1)), np.ones((2, 1), dtype=int))
    assert angles[0, 0, 1] < 1e-4  # in single precision up to 0.03


def test_lengths_do_not_matter():
    bases = np.array([[[ray(0)]], [[ray(25)]]], dtype=np.float32)
    bases[1] *= 7.0
    assert class_angles(bases, np.ones((2, 1), dtype=int))[0, 0, 1] == pytest.approx(25, abs=1e-5)


@quick
@given(seeds, st.integers(1, 9), st.integers(1, 4), st.integers(1, 3))
def test_angles_are_symmetric_bounded_and_follow_the_clients(seed, clients, classes, p):
    rng = np.random.default_rng(seed)
    bases, counts = random_clients(rng, clients, classes, p, 5)
    order = rng.permutation(clients)
    vectors = class_angles(bases, counts)
    principal = class_angles(bases, counts, "principal")
    for angles in (vectors, principal):
        assert np.array_equal(angles, angles.swapaxes(1, 2))
        assert not np.diagonal(angles, axis1=1, axis2=2).any()
        assert angles.min() >= 0.0
        assert angles.max() <= 90.0
    # The span holds the vectors, so no two vectors can be nearer than the spans.
    assert np.all(principal <= vectors + 0.05)
    np.testing.assert_allclose(
        class_angles(bases[order], counts[order]),
        vectors[:, order][:, :, order],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("bases", "counts", "message"),
    [
        (np.ones((2, 1, 1)), np.ones((2, 1), int), "bases must have shape"),
        (np.ones((2, 2, 1, 3)), np.ones((2, 1), int), "bases must have shape"),
        (np.ones((2, 1, 0, 3)), np.ones((2, 1), int), "p and d >= 1"),
        (np.ones((2, 1, 1, 3)), -np.ones((2, 1), int), "must not be negative: client 0"),
        (np.ones((2, 1, 1, 3)), np.ones((2, 1)), "must be integers"),
        (np.ones((0, 1, 1, 3)), np.ones((0, 1), int), "N and C >= 1"),
        (np.array([[[[1.0]]], [[[np.nan]]]]), np.ones((2, 1), int), "number 1, class 0, is not f"),
    ],
)
def test_angles_reject(bases, counts, message):
    with pytest.raises(ValueError, match=message):
        class_angles(bases, counts)


def test_skew_basis():
    bases = np.array([[[ray(0), ray(60)]]], dtype=np.float32)
    with pytest.raises(ValueError, match="client number 0, class 0, is not orthonormal"):
        class_angles(bases, np.ones((1, 1), dtype=int), "principal")


# Eq. 5


def frequency_weights(counts, delta=0.6, scope="shared"):
    """W' (C, N, N), which V shows where angles are 1 in one class and 0 in the C - 1 others."""
    clients, classes = counts.shape
    angles = np.eye(classes)[:, :, None, None] * np.ones((clients, clients))
    return np.stack([classes * data_dissimilarity(one, counts, delta, scope) for one in angles])


def test_hand_worked_weights():
    # Clients 0 and 1 have 5 samples each: ratio 1, the smallest. Clients 2 has 20: with either,
    # ratio ln(20 + e) / ln(5 + e), the largest. Min-max normalised 0, 1, 1:
    # into [1, 1.6] that is 1, 1.6, 1.6; into [0.4, 1.6] it is 0.4, 1.6, 1.6.
    counts = np.array([[5], [5], [20]])
    shared = [[1, 1, 1.6], [1, 1, 1.6], [1.6, 1.6, 1]]
    paper = [[1, 0.4, 1.6], [0.4, 1, 1.6], [1.6, 1.6, 1]]
    np.testing.assert_allclose(frequency_weights(counts, 0.6)[0], shared, rtol=1e-15)
    np.testing.assert_allclose(frequency_weights(counts, 0.6, "all")[0], paper, rtol=1e-15)


def test_class_that_one_client_lacks_has_weight_one_when_only_shared_classes_count():
    # Class 1 is client 2's alone: all its weights are 1. Its ratio ln(1000 + e) / ln e = 6.9 would
    # be the largest of all in the paper's range, where it gets 1.6.
    counts = np.array([[5, 0], [5, 0], [20, 1000]])
    assert np.all(frequency_weights(counts, 0.6)[1] == 1.0)
    assert frequency_weights(counts, 0.6, "all")[1, 0, 2] == 1.6
    assert frequency_weights(counts, 0.6, "all")[1, 0, 1] == 0.4


@pytest.mark.parametrize("scope", ["shared", "all"])
@pytest.mark.parametrize("delta", [0.0, 0.6, 1.0])
def test_weights_agree_with_plain_python(scope, delta):
    counts = random_clients(np.random.default_rng(3), 9, 4, 1, 2)[1]
    expected = slow_weights(counts, delta, scope)
    np.testing.assert_allclose(frequency_weights(counts, delta, scope), expected, rtol=1e-12)


@quick
@given(seeds, st.integers(1, 9), st.integers(1, 4), st.sampled_from(["shared", "all"]))
def test_weights_stay_in_their_range(seed, clients, classes, scope):
    rng = np.random.default_rng(seed)
    delta = rng.random()
    weights = frequency_weights(random_clients(rng, clients, classes, 1, 2)[1], delta, scope)
    assert np.array_equal(weights, weights.swapaxes(1, 2))
    assert weights.min() >= (1.0 if scope == "shared" else 1.0 - delta) - 1e-12
    assert weights.max() <= 1.0 + delta + 1e-12


@pytest.mark.parametrize("scope", ["shared", "all"])
@pytest.mark.parametrize(
    "counts", [[[7]], [[7, 7], [7, 7]], [[3], [9]], [[1, 0], [0, 1]], [[0], [0]]]
)
def test_equal_ratios_weigh_one(counts, scope):
    # One pair, or several of one ratio: nothing to normalise. ([[1, 0], [0, 1]]: ln(1 + e) twice.)
    assert np.all(frequency_weights(np.array(counts), 0.6, scope) == 1.0)


# Eq. 6


def test_hand_worked_weighted_mean():
    # Class 0: angles 30 (0-1), 60 (0-2), 80 (1-2), weights of test_hand_worked_weights:
    # 1, 1.6, 1.6, so 30, 96, 128. Class 1: nobody but client 2: 0, 90, 90, weight 1.
    # V = (30 + 0) / 2 = 15, (96 + 90) / 2 = 93, (128 + 90) / 2 = 109.
    counts = np.array([[5, 0], [5, 0], [20, 8]])
    angles = np.array(
        [[[0, 30, 60], [30, 0, 80], [60, 80, 0]], [[0, 0, 90], [0, 0, 90], [90, 90, 0]]]
    )
    expected = [[0, 15, 93], [15, 0, 109], [93, 109, 0]]
    np.testing.assert_allclose(data_dissimilarity(angles, counts, 0.6), expected, rtol=1e-14)


@pytest.mark.parametrize("scope", ["shared", "all"])
@pytest.mark.parametrize("block_entries", [1, 30, 1 << 20])
def test_mean_agrees_with_plain_python(monkeypatch, scope, block_entries):
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", block_entries)
    bases, counts = random_clients(np.random.default_rng(4), 10, 4, 2, 5)
    angles = class_angles(bases, counts)
    expected = (slow_weights(counts, 0.3, scope) * angles).sum(axis=0) / 4
    result = data_dissimilarity(angles, counts, 0.3, scope)
    np.testing.assert_allclose(result, expected, rtol=1e-12)
    assert result.dtype == np.float64


@quick
@given(seeds, st.integers(1, 9), st.integers(1, 4), st.sampled_from(["shared", "all"]))
def test_dissimilarity_is_symmetric_and_follows_the_clients(seed, clients, classes, scope):
    rng = np.random.default_rng(seed)
    bases, counts = random_clients(rng, clients, classes, 2, 5)
    result = data_dissimilarity(class_angles(bases, counts), counts, 0.6, scope)
    assert np.array_equal(result, result.T)
    assert not result.diagonal().any()
    scaled = normalise(result).matrix
    assert scaled.min() >= 0.0
    assert scaled.max() <= 1.0
    order = rng.permutation(clients)
    moved = data_dissimilarity(class_angles(bases[order], counts[order]), counts[order], 0.6, scope)
    np.testing.assert_allclose(moved, result[np.ix_(order, order)], atol=1e-3)


def test_clients_with_no_class_in_common_are_alike_far_apart():
    # Each client has one class of its own: each pair differs in 2 of 3 classes, 2 * 90 / 3 = 60.
    bases = np.tile(np.array(ray(10), dtype=np.float32), (3, 3, 1, 1))
    counts = np.diag([1, 5, 50])
    expected = 60.0 * (1 - np.eye(3))
    np.testing.assert_allclose(data_dissimilarity(class_angles(bases, counts), counts), expected)


def test_dissimilarity_rejects_angles_of_another_shape():
    with pytest.raises(ValueError, match="angles must have shape"):
        data_dissimilarity(np.zeros((1, 2, 2)), np.ones((3, 1), int))
