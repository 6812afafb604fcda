import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from feddag_flwr.similarity.drift import class_shift, line_distance, noise_moments

MANY = 10**8  # samples, so that noise is below the fifth digit

histograms = st.integers(1, 12).flatmap(
    lambda classes: st.tuples(
        *(
            st.lists(st.integers(0, 500), min_size=classes, max_size=classes).filter(any)
            for _ in range(2)
        )
    )
)


@pytest.mark.parametrize(
    ("before", "after", "shift"),
    [
        # Half of the samples one class on, of two: random classes are 3 / 6 = 1/2 apart.
        ([1, 0], [0.5, 0.5], 1.0),
        # 0.3 from class 0 to 9, of ten: 9 x 0.3 classes over 99 / 30 = 3.3.
        ([1] + [0] * 9, [0.7] + [0] * 8 + [0.3], 2.7 / 3.3),
        # 0.3 to the neighbour: on the line 0.3 / 3.3 only, but 0.3 of the samples changed class.
        ([1] + [0] * 9, [0.7, 0.3] + [0] * 8, 0.3),
        # All classes one on (concept 2 of scenario II): all changed where each is full or empty.
        ([0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], 1.0),
        # Back and forth: 0.2 up, 0.2 down.
        ([0.4, 0.2, 0.4], [0.2, 0.6, 0.2], 0.4 / (8 / 9)),
        ([1], [1], 0.0),
    ],
)
def test_hand_worked_shifts(before, after, shift):
    found = class_shift(np.multiply(before, MANY), np.multiply(after, 3 * MANY))
    assert found == pytest.approx(shift, abs=1e-3)


def test_equal_shares_are_no_shift():
    assert class_shift([3, 0, 2], [3, 0, 2]) == 0.0
    assert class_shift([1, 2], [1000, 2000]) == 0.0
    assert class_shift([7], [900]) == 0.0


def test_the_same_shares_of_few_samples_may_be_chance():
    assert class_shift([6, 4], [4, 6]) == 0.0
    assert class_shift([6000, 4000], [4000, 6000]) == pytest.approx(0.4, abs=0.02)


@given(histograms)
def test_it_is_symmetric_and_never_negative(pair):
    before, after = pair
    shift = class_shift(before, after)
    assert shift >= 0.0
    assert shift == pytest.approx(class_shift(after, before), abs=1e-12)
    assert class_shift(before, before) == 0.0


@given(histograms)
def test_large_samples_are_judged_by_their_shares_alone(pair):
    first, second = (np.array(each, dtype=float) for each in pair)
    once = class_shift(first * 1e9, second * 1e9)
    assert once == pytest.approx(class_shift(first * 3e9, second * 7e9), abs=1e-3)
    # Against the definitions: transport on the line by sorted unit masses, and total variation.
    p, q = first / first.sum(), second / second.sum()
    classes = len(p)
    levels = np.concatenate([np.cumsum(p), np.cumsum(q)]).clip(0, 1)
    edges = np.unique(np.concatenate([[0.0, 1.0], levels]))
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    quantiles = [np.searchsorted(np.cumsum(each), middles).clip(0, classes - 1) for each in (p, q)]
    line = (widths * np.abs(quantiles[0] - quantiles[1])).sum()
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))).mean()
    expected = max(line / apart if classes > 1 else 0.0, (p - np.minimum(p, q)).sum())
    assert once == pytest.approx(expected, abs=1e-3)


def test_the_noise_is_what_samples_show():
    """Monte Carlo: the distance on the line of two samples of one distribution."""
    rng = np.random.default_rng(0)
    shares, sizes = np.array([0.1, 0.0, 0.35, 0.05, 0.3, 0.2]), (400, 250)
    first, second = (rng.multinomial(size, shares, 20_000) / size for size in sizes)
    below = np.cumsum(shares)[:-1]
    covariance = np.minimum.outer(below, below) * (1 - np.maximum.outer(below, below))
    mean, deviation = noise_moments(covariance * (1 / 400 + 1 / 250))
    drawn = np.abs(np.cumsum(first - second, axis=1)).sum(axis=1)
    assert mean == pytest.approx(drawn.mean(), rel=0.02)
    assert deviation == pytest.approx(drawn.std(), rel=0.02)
    by_hand = np.sqrt(2 / np.pi * below * (1 - below) * (1 / 400 + 1 / 250)).sum()
    assert mean == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("samples", [20, 60, 600])
def test_stationary_clients_hardly_ever_alarm(samples):
    rng = np.random.default_rng(samples)
    alarms = 0
    for _ in range(1000):
        shares = np.zeros(10)
        shares[rng.choice(10, 3, replace=False)] = rng.dirichlet(np.ones(3))
        before, after = rng.multinomial(samples, shares, 2)
        alarms += class_shift(before, after) > 0.2
    assert alarms <= 1


def test_clients_that_change_group_are_seen():
    """Sixty samples of three in ten classes, of which at most one stays: every one is told."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        shares = np.zeros((2, 10))
        order = rng.permutation(10)
        shares[0, order[:3]] = rng.dirichlet(np.full(3, 5.0))
        shares[1, order[2:5]] = rng.dirichlet(np.full(3, 5.0))
        before, after = (rng.multinomial(60, each) for each in shares)
        assert class_shift(before, after) > 0.2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1, 2], [1, 2, 3], "before has 2 classes, after has 3"),
        ([0, 0], [1, 2], "before has no samples"),
        ([1, 2], [0, 0], "after has no samples"),
        ([1, -2], [1, 2], "before must hold counts"),
        ([1, 2], [1, np.nan], "after must hold counts"),
        ([], [], r"before must have shape \(C,\)"),
        ([[1]], [1], r"before must have shape \(C,\)"),
    ],
)
def test_bad_histograms_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        class_shift(before, after)


@given(histograms)
def test_the_distance_on_the_line_is_scipys(pair):
    line = np.arange(len(pair[0]))
    expected = wasserstein_distance(line, line, *pair)
    assert line_distance(*map(np.array, pair)) == pytest.approx(expected, abs=1e-12)
