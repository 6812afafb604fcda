import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from feddag_lab.experiments import statistics
from feddag_lab.experiments.statistics import (
    Interval,
    bootstrap_interval,
    mean_and_deviation,
    mean_of_means,
    t_interval,
    two_level_bootstrap,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_mean_and_deviation_by_hand():
    # Mean 4, squares of 2, 0, 2: sqrt(8 / 2) = 2.
    assert mean_and_deviation([2.0, 4.0, 6.0]) == (4.0, 2.0)
    assert mean_and_deviation([3.0]) == (3.0, None)
    with pytest.raises(ValueError, match="no values"):
        mean_and_deviation([])


def test_every_seed_counts_once_whatever_its_clients():
    assert mean_of_means([np.array([0.0, 0.0, 0.0]), np.array([3.0])]) == 1.5


def test_sign_of_an_interval():
    intervals = [(0.1, 2.0), (-2.0, -0.1), (-0.1, 0.1), (0.0, 1.0)]
    assert [Interval(*ends).sign for ends in intervals] == [1, -1, 0, 0]


def test_t_interval_is_that_of_a_one_sample_test():
    means = [1.2, 0.4, 2.2, 1.9]
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    found = t_interval(means)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_t_interval_by_hand():
    # Two means 1 and 3: deviation sqrt(2), standard error 1, t(0.975, 1) = 12.7062.
    found = t_interval([1.0, 3.0])
    assert (found.low, found.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert t_interval([2.0, 2.0]) == Interval(2.0, 2.0)
    assert t_interval([2.0]) is None
    assert t_interval([]) is None


def test_one_seed_is_the_plain_percentile_bootstrap_of_scipy():
    values = rng(1).normal(2.0, 3.0, size=40)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method="percentile", rng=rng(2)
    ).confidence_interval
    found = bootstrap_interval([values], rng(3), resamples=50_000)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=0.03)


def test_the_variance_of_two_levels_is_the_closed_form():
    differences = [
        rng(seed).normal(mean, spread, size)
        for seed, (mean, spread, size) in enumerate([(0, 1, 8), (1, 2, 20), (3, 0.5, 5)])
    ]
    between = np.var([each.mean() for each in differences])
    within = np.mean([each.var() / len(each) for each in differences])
    replicates = two_level_bootstrap(differences, rng(7), resamples=200_000)
    assert replicates.mean() == pytest.approx(mean_of_means(differences), abs=0.01)
    assert replicates.var() == pytest.approx((between + within) / 3, rel=0.02)


def test_seeds_are_drawn_with_replacement():
    # Clients of a seed all alike: a replicate is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    replicates = two_level_bootstrap([np.zeros(3), np.ones(4)], rng(), resamples=40_000)
    values, counts = np.unique(replicates, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    assert counts / 40_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_small_blocks_of_memory_change_nothing(monkeypatch):
    differences = [rng(1).normal(size=7), rng(2).normal(size=11)]
    whole = two_level_bootstrap(differences, rng(5), resamples=500)
    monkeypatch.setattr(statistics, "BLOCK_VALUES", 40)
    assert np.array_equal(two_level_bootstrap(differences, rng(5), resamples=500), whole)


def test_one_value_has_no_interval_and_no_values_no_bootstrap():
    assert bootstrap_interval([np.array([1.0])], rng()) is None
    assert bootstrap_interval([np.array([1.0]), np.array([2.0])], rng()) is not None
    for nothing in ([], [np.array([])], [np.array([1.0]), np.array([])]):
        with pytest.raises(ValueError, match="at least one seed"):
            two_level_bootstrap(nothing, rng())


clients = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=1, max_size=6)
some_seeds = st.lists(clients.map(np.array), min_size=1, max_size=4).filter(
    lambda seeds: sum(map(len, seeds)) > 1
)


def interval_of(seeds):
    found = bootstrap_interval(seeds, rng(11), resamples=400)
    return np.array([found.low, found.high])


@given(some_seeds, st.floats(-50, 50))
@settings(max_examples=60)
def test_interval_holds_the_mean_and_moves_scales_and_flips_with_the_data(seeds, constant):
    found = interval_of(seeds)
    assert found[0] - 1e-9 <= mean_of_means(seeds) <= found[1] + 1e-9
    assert found[0] >= min(map(min, seeds)) - 1e-9
    assert found[1] <= max(map(max, seeds)) + 1e-9
    assert interval_of([each + constant for each in seeds]) == pytest.approx(found + constant)
    assert interval_of([3 * each for each in seeds]) == pytest.approx(3 * found)
    assert interval_of([-each for each in seeds]) == pytest.approx(-found[::-1])


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(-50, 50))
def test_t_interval_is_centred_and_moves_with_the_data(means, constant):
    found, moved = t_interval(means), t_interval([each + constant for each in means])
    assert (found.low + found.high) / 2 == pytest.approx(np.mean(means), abs=1e-6)
    assert moved.low - found.low == pytest.approx(constant, abs=1e-6)
    assert moved.high - found.high == pytest.approx(constant, abs=1e-6)
