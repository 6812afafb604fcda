"""Normalisation, Eq. 7 (fusion) and Eq. 8 (row entropy and the weights that lower it)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import softmax
from scipy.stats import entropy

from feddag_flwr.similarity import matrices
from feddag_flwr.similarity.fusion import entropy_gradient, fuse, learn_fusion_weights
from feddag_flwr.similarity.normalisation import normalise

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def symmetric(rng, clients):
    """Random dissimilarity in [0, 1]."""
    upper = np.triu(rng.random((clients, clients)), 1)
    return upper + upper.T


def planted(rng, groups, each, noise):
    """Normalised dissimilarity of `groups` groups: 0.3 inside, 0.8 across, plus noise."""
    labels = np.repeat(range(groups), each)
    matrix = np.where(labels[:, None] == labels, 0.3, 0.8)
    matrix = np.triu(matrix + noise * rng.standard_normal(matrix.shape), 1)
    matrix += matrix.T
    matrix -= matrix.min()
    np.fill_diagonal(matrix, 0.0)
    return normalise(matrix).matrix


# Normalisation


def test_hand_worked_normalisation():
    # Off-diagonal entries 30, 60, 90: minimum 30, range 60, so 0, 0.5, 1. The 0 of the diagonal
    # is not the minimum and stays 0.
    result = normalise([[0, 30, 60], [30, 0, 90], [60, 90, 0]])
    assert result.matrix.tolist() == [[0, 0, 0.5], [0, 0, 1], [0.5, 1, 0]]
    assert (result.scale.minimum, result.scale.maximum) == (30.0, 90.0)
    # A newcomer at 45, 90 and 120 degrees: 15 / 60, 60 / 60, and clipped; at 10: clipped.
    assert result.scale.apply([45, 90, 120, 10]).tolist() == [0.25, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("clients", [1, 2, 5])
def test_constant_matrix_becomes_zero(clients):
    result = normalise(42.0 * (1 - np.eye(clients)))
    assert not result.matrix.any()
    assert result.matrix.shape == (clients, clients)
    assert result.scale.minimum == result.scale.maximum == (42.0 if clients > 1 else 0.0)
    assert not result.scale.apply([0.0, 42.0, 100.0]).any()


@pytest.mark.parametrize("level", [0.0, 30.0, 90.0])
def test_a_range_of_mere_rounding_becomes_zero(level):
    rng = np.random.default_rng(0)
    noise = np.triu(rng.random((6, 6)), 1)
    noise += noise.T
    flat = level * (1 - np.eye(6))
    result = normalise(flat + 1e-5 * noise)
    assert not result.matrix.any()
    assert not result.scale.apply([level, level + 1.0]).any()  # nor do newcomers bring any
    assert normalise(flat + 1e-3 * noise).matrix.max() == 1.0


@quick
@given(seeds, st.integers(3, 12))
def test_normalised_entries_fill_the_unit_interval(seed, clients):
    rng = np.random.default_rng(seed)
    matrix = 180.0 * symmetric(rng, clients)
    result = normalise(matrix).matrix
    off_diagonal = result[~np.eye(clients, dtype=bool)]
    assert np.array_equal(result, result.T)
    assert not result.diagonal().any()
    assert (off_diagonal.min(), off_diagonal.max()) == (0.0, 1.0)
    order = rng.permutation(clients)
    moved = normalise(matrix[np.ix_(order, order)]).matrix
    assert np.array_equal(moved, result[np.ix_(order, order)])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), "square"),
        (np.zeros((0, 0)), "square"),
        ([[0, np.nan], [np.nan, 0]], "finite"),
        ([[0, np.inf], [np.inf, 0]], "finite"),
        ([[0, -1], [-1, 0]], "negative"),
        ([[1, 1], [1, 0]], "zero on the diagonal"),
        ([[0, 1], [2, 0]], "symmetric"),
    ],
)
def test_normalise_rejects(matrix, message):
    with pytest.raises(ValueError, match=message):
        normalise(matrix)


# Eq. 7

GRADIENT = np.array([[0, 0.2, 0.4], [0.2, 0, 1.0], [0.4, 1.0, 0]])
DATA = np.array([[0, 0.6, 0.8], [0.6, 0, 0.0], [0.8, 0.0, 0]])


def test_hand_worked_fusion():
    # w = (0.25, 0.5, 0.9). A_01 = 0.25 * 0.2 + 0.75 * 0.6 = 0.5 (client 0's weight),
    # A_02 = 0.25 * 0.4 + 0.75 * 0.8 = 0.7 (client 0's), A_12 = 0.5 * 1 + 0.5 * 0 = 0.5 (client
    # 1's); client 2's weight is used by nobody.
    fused = fuse(GRADIENT, DATA, np.array([0.25, 0.5, 0.9]))
    np.testing.assert_allclose(fused, [[0, 0.5, 0.7], [0.5, 0, 0.5], [0.7, 0.5, 0]], rtol=1e-15)


def test_weights_zero_and_one_are_the_single_metric_variants():
    assert np.array_equal(fuse(GRADIENT, DATA, np.zeros(3)), DATA)
    assert np.array_equal(fuse(GRADIENT, DATA, np.ones(3)), GRADIENT)


@quick
@given(seeds, st.integers(1, 12), st.sampled_from([1, 20, 1 << 20]))
def test_fusion_is_symmetric_bounded_and_for_equal_weights_blind_to_order(seed, clients, block):
    rng = np.random.default_rng(seed)
    gradient, data, weights = symmetric(rng, clients), symmetric(rng, clients), rng.random(clients)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrices, "BLOCK_ENTRIES", block)
        fused = fuse(gradient, data, weights)
    assert np.array_equal(fused, fused.T)
    assert not fused.diagonal().any()
    assert fused.min() >= 0.0
    assert fused.max() <= 1.0
    for i in range(clients):
        for j in range(i + 1, clients):
            expected = weights[i] * gradient[i, j] + (1 - weights[i]) * data[i, j]
            assert fused[i, j] == pytest.approx(expected, rel=1e-14)
    order, same = rng.permutation(clients), np.full(clients, 0.3)
    square = np.ix_(order, order)
    moved = fuse(gradient[square], data[square], same)
    assert np.array_equal(moved, fuse(gradient, data, same)[square])


# Eq. 8


def mean_row_entropy(proximity):
    """Eq. 8, by SciPy."""
    return entropy(softmax(proximity, axis=1), axis=1).mean()


@pytest.mark.parametrize("block_entries", [1, 30, 1 << 20])
def test_derivative_agrees_with_finite_differences(monkeypatch, block_entries):
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", block_entries)
    rng = np.random.default_rng(6)
    gradient, data = symmetric(rng, 11), symmetric(rng, 11)
    weights = rng.random(11)
    error = check_grad(
        lambda w: mean_row_entropy(fuse(gradient, data, w)),
        lambda w: entropy_gradient(gradient, data, w),
        weights,
    )
    size = np.linalg.norm(entropy_gradient(gradient, data, weights))
    assert size > 1e-3
    assert error < 1e-4 * size


def test_learning_starts_at_half_and_lowers_the_entropy_at_every_step():
    rng = np.random.default_rng(7)
    gradient, data = planted(rng, 4, 10, 0.1), planted(rng, 4, 10, 0.2)
    entropies = []
    for steps in (0, 1, 2, 10, 50):
        weights = learn_fusion_weights(gradient, data, steps=steps)
        if steps == 0:
            assert np.all(weights == 0.5)
        assert np.all((weights >= 0.0) & (weights <= 1.0))
        assert weights[-1] == 0.5
        entropies.append(mean_row_entropy(fuse(gradient, data, weights)))
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] - entropies[2] > 1e-4


def test_learning_follows_the_first_step_of_gradient_descent():
    rng = np.random.default_rng(8)
    gradient, data = symmetric(rng, 6), symmetric(rng, 6)
    # At w = 0.5 the logit moves the weight by w (1 - w) = 1/4; N = 6 rows are summed, not averaged.
    slope = entropy_gradient(gradient, data, np.full(6, 0.5))
    logit = -10.0 * 6 * slope * 0.25
    expected = 1.0 / (1.0 + np.exp(-logit))
    weights = learn_fusion_weights(gradient, data, steps=1)
    np.testing.assert_allclose(weights, expected, rtol=1e-12)


@pytest.mark.parametrize("vivid", ["gradient", "data"])
def test_learning_trusts_the_metric_whose_rows_vary_more(vivid):
    # Gaussian noise flattens a min-max normalised matrix: its few extremes take the whole range.
    rng = np.random.default_rng(9)
    clear, flat = planted(rng, 5, 20, 0.05), planted(rng, 5, 20, 0.4)
    if vivid == "gradient":
        assert learn_fusion_weights(clear, flat).mean() > 0.55
    else:
        assert learn_fusion_weights(flat, clear).mean() < 0.45


def test_variation_is_all_that_counts_even_where_it_is_noise():
    # A property of Eq. 8, not a wish: uniform noise (variance 1/12) outdoes five planted groups.
    rng = np.random.default_rng(9)
    clear, noise = planted(rng, 5, 20, 0.05), symmetric(rng, 100)
    assert mean_row_entropy(noise) < mean_row_entropy(clear)
    assert learn_fusion_weights(noise, clear).mean() > 0.5


@pytest.mark.parametrize("clients", [1, 2, 4])
def test_metrics_that_agree_leave_the_weights_alone(clients):
    same = symmetric(np.random.default_rng(10), clients)
    assert np.all(learn_fusion_weights(same, same) == 0.5)
    assert np.all(learn_fusion_weights(np.zeros_like(same), np.zeros_like(same)) == 0.5)


def test_learning_is_deterministic():
    rng = np.random.default_rng(11)
    gradient, data = symmetric(rng, 30), symmetric(rng, 30)
    first = learn_fusion_weights(gradient, data)
    assert np.array_equal(first, learn_fusion_weights(gradient, data))
