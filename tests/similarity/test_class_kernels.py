"""Kernels of classes: what is left of angles once each client's own offset is taken out."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import lsq_linear

from feddag_flwr.similarity.class_kernels import ClassKernel, added, class_kernels

seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=30)


def all_pairs(clients):
    return list(combinations(range(clients), 2))


def known_kernel(rng, sizes):
    """A symmetric kernel (h, h), 0 on the diagonal, with no weighted row sum left over."""
    pairs = all_pairs(len(sizes))
    sums = np.zeros((len(sizes), len(pairs)))
    for place, (i, j) in enumerate(pairs):
        sums[i, place], sums[j, place] = sizes[j], sizes[i]
    free = null_space(sums)
    kernel = np.zeros((len(sizes), len(sizes)))
    for value, (i, j) in zip(free @ rng.normal(0, 30, free.shape[1]), pairs, strict=True):
        kernel[i, j] = kernel[j, i] = value
    return kernel


def angles_of(kernel, offsets):
    angles = np.sqrt(offsets[:, None] + offsets - 2 * kernel)
    np.fill_diagonal(angles, 0.0)
    return angles


def made(rng, clients=7):
    """A kernel of known make: what is in it, and the angles and sizes that it was made from."""
    sizes = rng.integers(5, 300, clients)
    kernel, offsets = known_kernel(rng, sizes), rng.uniform(300, 900, clients)
    angles = angles_of(kernel, offsets)
    found = ClassKernel.of(3, angles, np.arange(clients), sizes)
    return found, kernel, offsets, angles, sizes


def random_angles(rng, clients):
    angles = np.triu(rng.uniform(10, 90, (clients, clients)), 1)
    return angles + angles.T


@given(seeds, st.integers(4, 9))
@some
def test_what_angles_were_made_of_is_found_again(seed, clients):
    found, kernel, offsets, _, sizes = made(np.random.default_rng(seed), clients)
    np.testing.assert_allclose(found.offsets, offsets, rtol=1e-9)
    scaled = np.sqrt(sizes[:, None] * sizes) * kernel
    off_diagonal = [scaled[pair] for pair in all_pairs(clients)]
    assert found.spread == pytest.approx(np.sqrt(np.mean(np.square(off_diagonal))))
    np.testing.assert_allclose(found.values * found.spread, scaled, atol=1e-5 * found.spread)


@given(seeds, st.integers(4, 9), st.sampled_from([10, 3000]))
@some
def test_offsets_are_the_weighted_least_squares_of_all_pairs(seed, clients, largest):
    rng = np.random.default_rng(seed)
    angles, sizes = random_angles(rng, clients), rng.integers(1, largest, clients)
    pairs = all_pairs(clients)
    system, squares = np.zeros((len(pairs), clients)), np.zeros(len(pairs))
    for row, (i, j) in enumerate(pairs):
        root = np.sqrt(sizes[i] * sizes[j])
        system[row, [i, j]] = root
        squares[row] = root * angles[i, j] ** 2
    found = ClassKernel.of(0, angles, np.arange(clients), sizes)
    expected = lsq_linear(system, squares, method="bvls", tol=1e-14).x
    np.testing.assert_allclose(found.offsets, expected, rtol=1e-5, atol=1e-3)


@given(seeds, st.integers(4, 9))
@some
def test_a_kernel_is_symmetric_with_a_spread_of_one(seed, clients):
    rng = np.random.default_rng(seed)
    angles = random_angles(rng, clients)
    before = angles.copy()
    found = ClassKernel.of(5, angles, np.arange(clients), rng.integers(1, 99, clients))
    np.testing.assert_array_equal(angles, before)
    assert (found.label, found.values.dtype) == (5, np.float32)
    assert not np.diagonal(found.values).any()
    np.testing.assert_array_equal(found.values, found.values.T)
    squares = [float(found.values[pair]) ** 2 for pair in all_pairs(clients)]
    assert np.mean(squares) == pytest.approx(1.0, rel=1e-5)


def test_sampling_alone_leaves_as_much_to_small_clients_as_to_large_ones():
    """Noise of 1 / sqrt(n) a client: each entry of the scaled kernel has the same spread."""
    rng = np.random.default_rng(0)
    sizes, sums = np.repeat([10, 1000], 10), np.zeros(2)
    for _ in range(50):
        noise = rng.standard_normal((20, 40)) / np.sqrt(sizes)[:, None]
        angles = np.linalg.norm(noise[:, None] - noise, axis=2)
        squares = np.square(ClassKernel.of(0, angles, np.arange(20), sizes).values)
        sums += squares[:10, :10].sum(), squares[10:, 10:].sum()
    assert 0.7 < sums[0] / sums[1] < 1.4


@given(seeds)
@some
def test_permuted_gives_each_holder_what_another_has(seed):
    rng = np.random.default_rng(seed)
    kernel = made(rng)[0]
    permutation = rng.permutation(7)
    found = kernel.permuted(permutation)
    for i, j in np.ndindex(7, 7):
        assert found[i, j] == kernel.values[permutation[i], permutation[j]]


def test_among_is_the_kernel_without_the_sizes():
    found, kernel, *_ = made(np.random.default_rng(2))
    rows = found.among(np.array([5, 0])) * found.spread
    np.testing.assert_allclose(rows, kernel[[5, 0]], atol=1e-5 * np.abs(kernel).max())


@given(seeds)
@some
def test_a_copy_of_a_holder_has_about_its_kernel(seed):
    """But for its own pair, at 0 degrees, that moves all alike by -a_i n_i / n."""
    found, kernel, offsets, angles, sizes = made(np.random.default_rng(seed), clients=9)
    rows = found.to_others(angles) * found.spread
    for i, j in np.ndindex(9, 9):
        if i != j:
            moved = kernel[i, j] - offsets[i] * sizes[i] / sizes.sum()
            assert rows[i, j] == pytest.approx(moved, rel=1e-6, abs=1e-6)


@given(seeds)
@some
def test_how_far_another_is_from_all_says_nothing(seed):
    found, kernel, offsets, _, _ = made(np.random.default_rng(seed))
    to_others = np.sqrt([700.0 + offsets - 2 * kernel[1], 5000.0 + offsets - 2 * kernel[1]])
    near, far = found.to_others(to_others)
    np.testing.assert_allclose(near, far, atol=1e-7)
    np.testing.assert_allclose(near - near[0], (kernel[1] - kernel[1, 0]) / found.spread, atol=1e-6)


def kernel_of(inner, sizes):
    """A kernel with given K_ij and no unit."""
    sizes = np.array(sizes, dtype=np.float64)
    values = (np.array(inner) * np.sqrt(np.outer(sizes, sizes))).astype(np.float32)
    return ClassKernel(0, np.arange(len(sizes)), sizes, np.zeros(len(sizes)), 1.0, values)


def test_scores_by_hand():
    """Sizes 1, 2, 3 on the first side: K_zz = (2 * 1 + 3 * 2 + 6 * 3) / 11, K_mz = 14 / 6."""
    inner = [
        [0, 1, 2, 9, 9, 9],
        [1, 0, 3, 9, 9, 9],
        [2, 3, 0, 9, 9, 9],
        [9, 9, 9, 0, 4, 9],
        [9, 9, 9, 4, 0, 9],
        [9, 9, 9, 9, 9, 0],
    ]
    kernel = kernel_of(inner, [1, 2, 3, 7, 7, 50])
    rows = np.array([[3.0, 1.0, 3.0, 5.0, 1.0, 99.0], [0.0, 0.0, 0.0, 4.0, 8.0, -99.0]])
    found = kernel.scores(rows, np.array([5.0, 1.0]), np.array([0, 0, 0, 1, 1, -1]))
    within = 26 / 11
    expected = [[5 * (14 / 6 - within / 2), 5 * (3 - 2)], [-within / 2, 6 - 2]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("sides", [[0, 0, 0, 1], [0, 1, 1, 1], [-1, 0, -1, 1], [-1] * 4])
def test_a_side_of_one_has_no_say(sides):
    kernel = kernel_of(1.0 - np.eye(4), [3, 3, 3, 3])
    found = kernel.scores(np.ones((2, 4)), np.ones(2), np.array(sides))
    assert found.tolist() == [[0.0, 0.0]] * 2


@given(seeds)
@some
def test_scores_are_log_densities_about_the_sides_means(seed):
    """Others at points of a plane, holders at their sides' means: n |y - z|^2 / 2 decides."""
    rng = np.random.default_rng(seed)
    means, others = rng.standard_normal((2, 2)), rng.standard_normal((6, 2))
    sides = np.array([0, 1, 0, 1, 1, 0, 1])
    points = means[sides]
    kernel = kernel_of(points @ points.T, rng.integers(1, 50, 7))
    kernel.values[np.diag_indices(7)] = 0.0
    sizes = rng.integers(1, 50, 6).astype(float)
    found = kernel.scores(others @ points.T, sizes, sides)
    squares = np.square(others[:, None] - means).sum(axis=2)
    expected = -sizes * (squares[:, 1] - squares[:, 0]) / 2
    np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, atol=1e-4)


def test_a_class_is_compared_among_those_that_hold_it():
    rng = np.random.default_rng(4)
    angles = np.stack([random_angles(rng, 8) for _ in range(3)]).astype(np.float32)
    seen = rng.integers(3, 40, (8, 3))
    seen[:5, 0] = 0  # three holders are too few
    seen[[1, 6], 2] = 0
    found = class_kernels(angles, seen)
    assert [kernel.label for kernel in found] == [1, 2]
    assert found[1].holders.tolist() == [0, 2, 3, 4, 5, 7]
    assert found[1].sizes.tolist() == [seen[i, 2] for i in (0, 2, 3, 4, 5, 7)]
    alone = angles[2][[0, 2, 3, 4, 5, 7]][:, [0, 2, 3, 4, 5, 7]].astype(float)
    expected = ClassKernel.of(2, alone, np.arange(6), found[1].sizes.astype(int))
    np.testing.assert_array_equal(found[1].values, expected.values)


def test_clients_that_look_the_same_are_not_compared():
    rng = np.random.default_rng(0)
    seen = np.full((6, 2), 9)
    rounding = np.stack([random_angles(rng, 6) * 1e-7, np.zeros((6, 6))])
    assert class_kernels(rounding, seen) == []
    assert len(class_kernels(rounding * 1e6, seen)) == 1


@pytest.mark.parametrize("angle", [37.3, 50.0, 90.0])
def test_clients_that_all_look_equally_different_are_not_compared(angle):
    """All of the angles is offsets: what is left is rounding, no kernel."""
    sizes = np.random.default_rng(0).integers(5, 3000, (20, 2))
    angles = np.full((2, 20, 20), angle, dtype=np.float32) * (1 - np.eye(20, dtype=np.float32))
    assert class_kernels(angles, sizes) == []


@given(seeds)
@some
def test_added_is_the_sum_over_classes_of_what_two_clients_share(seed):
    rng = np.random.default_rng(seed)
    seen = rng.integers(1, 30, (7, 4)) * (rng.random((7, 4)) < 0.8)
    seen[:, 0] = 5
    kernels = class_kernels(np.stack([random_angles(rng, 7) for _ in range(4)]), seen)
    expected = np.zeros((7, 7))
    for kernel in kernels:
        for row, one in enumerate(kernel.holders):
            for column, other in enumerate(kernel.holders):
                expected[one, other] += kernel.values[row, column]
    found = added(kernels, 7)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert added([], 3).tolist() == [[0.0] * 3] * 3


@given(seeds)
@some
def test_added_permutes_each_class_by_its_own_row(seed):
    rng = np.random.default_rng(seed)
    seen = rng.integers(1, 30, (9, 3)) * (rng.random((9, 3)) < 0.8)
    seen[:, 0] = 5
    kernels = class_kernels(np.stack([random_angles(rng, 9) for _ in range(3)]), seen)
    rows = [rng.permutation(len(kernel.holders)) for kernel in kernels]
    padded = np.array([[*row, *range(len(row), 9)] for row in rows])
    expected = np.zeros((9, 9))
    for kernel, row in zip(kernels, rows, strict=True):
        expected[np.ix_(kernel.holders, kernel.holders)] += kernel.values[np.ix_(row, row)]
    np.testing.assert_allclose(added(kernels, 9, padded), expected, atol=1e-5)
