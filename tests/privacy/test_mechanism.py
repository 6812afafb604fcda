import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from privacy_noise import seeded_noise
from scipy.stats import binom, kstest, norm

from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.mechanism import (
    CHANCE,
    ClassMoments,
    NoisyMoments,
    projection,
    unit_rows,
)
from feddag_flwr.privacy.noise import GaussianNoise

BUDGET = ProfileBudget(1e-5, 2.0, 1.5)
CLASSES = 3


def moments_of(rows, labels):
    moments = ClassMoments.none(CLASSES, rows.shape[1])
    moments.add(rows, labels)
    return moments


# Whatever doubles there are, infinities and NaN among them.
ANY_ROWS = arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats())


@given(ANY_ROWS, arrays(np.float64, 4, elements=st.floats()), st.data())
def test_one_sample_more_moves_counts_and_moments_by_no_more_than_1(rows, added, data):
    labels = np.array([data.draw(st.integers(0, CLASSES - 1)) for _ in rows], dtype=np.int64)
    label = data.draw(st.integers(0, CLASSES - 1))
    before = moments_of(rows, labels)
    after = moments_of(np.vstack([rows, added]), np.append(labels, label))
    moved = after.counts - before.counts
    assert np.linalg.norm(moved) == 1
    rounding = 1e-14 * (1 + len(rows))
    assert np.linalg.norm(after.seconds - before.seconds) <= 1 + rounding
    assert not np.delete(after.seconds - before.seconds, label, axis=0).any()


def test_a_single_sample_reaches_the_bound():
    none, one = moments_of(np.zeros((0, 4)), np.zeros(0, int)), moments_of(np.eye(4)[:1], [0])
    assert np.linalg.norm(one.seconds - none.seconds) == pytest.approx(1, abs=1e-11)


@given(ANY_ROWS)
def test_rows_are_of_unit_length_or_zero(rows):
    lengths = np.linalg.norm(unit_rows(rows), axis=1)
    directed = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
    np.testing.assert_allclose(lengths, directed.astype(float), atol=1e-11)
    assert (lengths <= 1).all()


def test_moments_by_hand():
    moments = moments_of(np.array([[3.0, 4.0], [0.0, 2.0]]), np.array([1, 1]))
    assert moments.counts.tolist() == [0, 2, 0]
    np.testing.assert_allclose(moments.seconds[1], [[0.36, 0.48], [0.48, 1.64]], atol=1e-11)


# -- noise -------------------------------------------------------------------------------------


def test_noise_is_the_operating_systems():
    assert GaussianNoise().source is os.urandom
    assert (GaussianNoise().normal(8) != GaussianNoise().normal(8)).all()


def test_normal_numbers_by_hand():
    # The smallest and the largest of 2^52 steps, and the one above the middle.
    bits = [0, 2**64 - 1, 2**63]
    noise = GaussianNoise(lambda _: np.array(bits, dtype="<u8").tobytes())
    low, high, middle = noise.normal(3)
    assert low == -high == norm.ppf(0.5 / 2**52)
    assert middle == pytest.approx(norm.ppf(0.5 + 0.5 / 2**52), abs=1e-16)


def test_normal_numbers_are_normal():
    assert kstest(seeded_noise(1).normal(200, 200).ravel(), "norm").pvalue > 0.01


def test_symmetric_noise_is_alike_in_all_directions():
    noise, direction = seeded_noise(2), np.array([[0.6, 0.4], [0.4, 0.0]])
    direction /= np.linalg.norm(direction)
    drawn = np.array([noise.symmetric(2) for _ in range(20_000)])
    assert (drawn == drawn.transpose(0, 2, 1)).all()
    assert kstest(np.einsum("nij,ij->n", drawn, direction), "norm").pvalue > 0.01
    np.testing.assert_allclose(drawn.var(axis=0), [[1, 0.5], [0.5, 1]], rtol=0.05)


# -- what is told ------------------------------------------------------------------------------


def test_released_is_the_truth_and_noise_of_the_budget():
    moments = moments_of(np.eye(4)[:2], np.array([0, 2]))
    noisy = moments.released(BUDGET, seeded_noise(3))
    noise = seeded_noise(3)
    np.testing.assert_array_equal(noisy.counts, [1, 0, 1] + 2.0 * noise.normal(3))
    for label in range(CLASSES):
        expected = moments.seconds[label] + 1.5 * noise.symmetric(4)
        np.testing.assert_array_equal(noisy.seconds[label], expected)


def noisy(counts, seconds=None, budget=BUDGET):
    seconds = np.zeros((len(counts), 4, 4)) if seconds is None else seconds
    return NoisyMoments(np.array(counts, dtype=float), seconds, budget)


def test_counts_that_noise_could_have_made_are_told_absent():
    least = norm.isf(CHANCE) * 2.0  # 6.18
    told = noisy([least - 0.01, least + 0.01, -3.0, 99.6]).told_counts()
    assert told.tolist() == [0, round(least), 0, 100]


def test_the_largest_class_is_told_in_any_case():
    assert noisy([0.2, 3.4, -1.0]).told_counts().tolist() == [0, 3, 0]
    assert noisy([-9.0, -2.0]).told_counts().tolist() == [0, 1]


def test_noise_alone_tells_neither_classes_nor_directions_more_often_than_it_may():
    order, trials, noise = 16, 3000, seeded_noise(4)
    nothing = ClassMoments.none(2, order)
    nothing.counts[0] = 1000
    drawn = [nothing.released(BUDGET, noise) for _ in range(trials)]
    most = binom.isf(1e-4, trials, CHANCE)  # 11 of 3000
    assert sum(each.told_counts()[1] > 0 for each in drawn) <= most
    assert sum(len(each.vectors(0, 3)) > 0 for each in drawn) <= most


def test_directions_are_the_leading_ones_above_the_noise():
    basis = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]
    least = 1.5 * (np.sqrt(8) + np.sqrt(2 * np.log(1000)))  # 9.82
    second = (basis * [50.0, 0.0, least + 0.1, least - 0.1]) @ basis.T
    found = noisy([99], second[None]).vectors(0, 3)
    assert found.shape == (2, 4)
    np.testing.assert_allclose(np.abs(found @ basis[:, [0, 2]]), np.eye(2), atol=1e-9)
    peaks = np.abs(found).argmax(axis=1)
    assert (found[[0, 1], peaks] > 0).all()
    assert len(noisy([99], second[None]).vectors(0, 1)) == 1
    assert noisy([99], np.zeros((1, 4, 4))).vectors(0, 3).shape == (0, 4)


def test_the_projection_keeps_lengths_on_average_and_is_left_out_where_it_would_not_shorten():
    drawn = projection(400, 100, np.random.default_rng(6))
    row = np.random.default_rng(7).random(400)
    assert np.linalg.norm(drawn @ row) == pytest.approx(np.linalg.norm(row), rel=0.2)
    assert projection(16, 16, np.random.default_rng(6)) is None


# -- who is drawn ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
def test_each_sample_is_drawn_with_the_rate_and_by_itself(rate):
    noise, count, trials = seeded_noise(8), 40, 3000
    drawn = np.zeros((trials, count), dtype=bool)
    for row in drawn:
        row[noise.chosen(count, rate)] = True
    often = drawn.sum(axis=0)
    low, high = binom.ppf([1e-5, 1 - 1e-5], trials, rate)
    assert ((low <= often) & (often <= high)).all()
    # Numbers drawn vary as a binomial's: a draw of a fixed number would not.
    assert drawn.sum(axis=1).var() == pytest.approx(count * rate * (1 - rate), rel=0.15)


def test_the_draw_by_hand():
    bits = [0, 2**63 - 2**12, 2**63, 2**64 - 1]
    noise = GaussianNoise(lambda _: np.array(bits, dtype="<u8").tobytes())
    assert noise.chosen(4, 0.5).tolist() == [0, 1]
    assert noise.chosen(4, 1.0).tolist() == [0, 1, 2, 3]
