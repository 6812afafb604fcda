"""Aggregators that withstand members who lie, against hand-worked numbers and what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from feddag_flwr import aggregation
from feddag_flwr.aggregation import Weights, by_coordinate
from feddag_flwr.aggregators.clipped_mean import ClippedMean
from feddag_flwr.aggregators.geometric_median import GeometricMedian
from feddag_flwr.aggregators.limited import Limited, limited_shares
from feddag_flwr.aggregators.mean import Mean
from feddag_flwr.aggregators.median import Median
from feddag_flwr.aggregators.multi_krum import MultiKrum
from feddag_flwr.aggregators.trimmed_mean import TrimmedMean
from feddag_flwr.engine.aggregator import make_aggregator
from feddag_flwr.settings import Settings

ROBUST = [Median, TrimmedMean, MultiKrum, GeometricMedian, ClippedMean]
START = Weights(np.zeros(2, np.float32), np.zeros(1, np.float32), np.zeros(1, np.int64))


def points(*rows):
    """Members whose two parameters are given; a buffer of their sum, a counter of the first."""
    return [
        Weights(
            np.array(row, np.float32),
            np.array([sum(row)], np.float32),
            np.array([int(row[0])], np.int64),
        )
        for row in rows
    ]


def joined(aggregator, *rows, weights=None, start=START):
    return aggregator.aggregate(points(*rows), weights or [1.0] * len(rows), start)


def test_median_by_hand():
    found = joined(Median(), (1, 9), (2, 7), (50, 8), weights=[1, 1, 1e6])
    np.testing.assert_array_equal(found.floats, [2.0, 8.0])
    np.testing.assert_array_equal(found.buffers, [10.0])
    np.testing.assert_array_equal(found.integers, [2])
    np.testing.assert_array_equal(joined(Median(), (1, 2), (3, 6)).floats, [2.0, 4.0])


def test_trimmed_mean_by_hand():
    rows = [(0, 9), (1, 8), (2, 7), (3, 6), (100, -100)]
    # One of five lies: the least and the greatest of each number are left out.
    np.testing.assert_allclose(joined(TrimmedMean(), *rows).floats, [2.0, 7.0])
    one = TrimmedMean()
    one.assumed_liars = 0.0
    np.testing.assert_allclose(joined(one, *rows).floats, [21.2, -14.0])
    one.assumed_liars = 0.4
    np.testing.assert_allclose(joined(one, *rows).floats, [2.0, 7.0])
    np.testing.assert_allclose(joined(one, (1, 1), (5, 9), (2, 40)).floats, [2.0, 9.0])
    np.testing.assert_allclose(joined(one, (1, 1), (5, 9)).floats, [3.0, 5.0])


def test_multi_krum_leaves_out_who_is_far_from_the_others():
    rows = [(0, 0), (2, 0), (0, 2), (2, 2), (30, 30)]
    found = joined(MultiKrum(), *rows, weights=[1, 1, 1, 3, 50])
    # One of five may lie: each has two nearest; only the last one's are far.
    np.testing.assert_allclose(found.floats, [8 / 6, 8 / 6])
    assert found.integers == [1]  # (0 + 2 + 0 + 3 * 2) / 6, rounded
    few = joined(MultiKrum(), *rows[1:], weights=[1, 1, 1, 50])
    np.testing.assert_array_equal(few.floats, [2.0, 2.0])


def test_geometric_median_is_where_distances_add_up_to_least():
    rng = np.random.default_rng(1)
    rows, weights = rng.normal(size=(7, 2)), rng.uniform(1, 4, 7)
    rows[0] = (40.0, -90.0)

    def far(point):
        return float(weights @ np.linalg.norm(rows - point, axis=1))

    found = joined(GeometricMedian(), *rows, weights=weights.tolist()).floats
    best = minimize(far, rows.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-8})
    assert far(found) <= best.fun * 1.001
    assert far(rows.mean(axis=0)) > best.fun * 1.1


def test_geometric_median_of_one_point_held_by_most_is_that_point():
    found = joined(GeometricMedian(), (1, 2), (1, 2), (1, 2), (1e6, 1e6))
    np.testing.assert_allclose(found.floats, [1.0, 2.0], rtol=0.01)


def test_clipped_mean_by_hand():
    start = Weights(np.array([1.0, 1.0], np.float32))
    members = [Weights(np.array(row, np.float32)) for row in ((1.0, 2.0), (4.0, 5.0), (1.0, 1.0))]
    # Lengths 1, 5, 0; the median 1: the second goes a fifth of its way, to (1.6, 1.8).
    found = ClippedMean().aggregate(members, [1.0, 2.0, 1.0], start)
    np.testing.assert_allclose(found.floats, [(1 + 3.2 + 1) / 4, (2 + 3.6 + 1) / 4])
    two = ClippedMean().aggregate(members[:2], [1.0, 1.0], start)
    np.testing.assert_allclose(two.floats, [1.3, 1.9])
    one = ClippedMean().aggregate(members[1:2], [1.0], start)
    np.testing.assert_array_equal(one.floats, [4.0, 5.0])


@pytest.mark.parametrize("kind", ROBUST)
@pytest.mark.parametrize("number", [5, 6, 9, 20])
def test_a_fifth_of_liars_moves_nobody_far(kind, number):
    """Wherever liars are, the result stays about where honest members are; the mean does not."""
    rng = np.random.default_rng(number)
    liars = number // 5
    honest = rng.normal(1.0, 0.1, (number - liars, 2))
    for lie in (-1e4, 1e4, -10.0):
        rows = [*honest.tolist(), *[(lie, lie)] * liars]
        found = joined(kind(), *rows).floats
        assert np.linalg.norm(found - honest.mean(axis=0)) < 1.0
        assert np.linalg.norm(joined(Mean(), *rows).floats - honest.mean(axis=0)) > 1.0


@pytest.mark.parametrize("kind", ROBUST)
@given(
    st.lists(st.tuples(*[st.floats(-100, 100, width=16)] * 2), min_size=1, max_size=9),
    st.integers(-50, 50),
)
def test_the_result_goes_with_the_members_and_stays_among_them(kind, rows, moved):
    here = joined(kind(), *rows).floats
    start = Weights(*(getattr(START, part) + moved for part in ("floats", "buffers", "integers")))
    there = joined(kind(), *[(x + moved, y + moved) for x, y in rows], start=start).floats
    np.testing.assert_allclose(there, here + moved, rtol=1e-3, atol=2e-2)
    values = np.array([*rows, (0.0, 0.0)] if kind is ClippedMean else rows)
    assert np.all(here >= values.min(axis=0) - 1e-3)
    assert np.all(here <= values.max(axis=0) + 1e-3)


@pytest.mark.parametrize("kind", [*ROBUST, Mean])
def test_equal_members_are_what_comes_of_them(kind):
    found = joined(kind(), *[(3.0, -1.5)] * 6)
    np.testing.assert_array_equal(found.floats, np.array([3.0, -1.5], np.float32))
    np.testing.assert_array_equal(found.buffers, [1.5])
    np.testing.assert_array_equal(found.integers, [3])


@given(
    st.lists(st.floats(0.01, 1e6), min_size=1, max_size=12),
    st.floats(0.01, 1.0),
)
def test_limited_shares_are_shares_and_keep_the_order(weights, most):
    shares = limited_shares(weights, most)
    assert shares.sum() == pytest.approx(1.0)
    assert shares.max() <= max(most, 1 / len(weights)) + 1e-9
    order = np.argsort(weights, kind="stable")
    assert np.all(np.diff(shares[order]) >= -1e-9)


def test_limited_shares_by_hand():
    # 90 of 100 is more than 0.4; the others have 0.6 as 4 to 6; 0.36 is within the cap.
    np.testing.assert_allclose(limited_shares([4, 6, 90], 0.4), [0.24, 0.36, 0.4])
    # Then the second would have 0.56 of 0.6: capped as well.
    np.testing.assert_allclose(limited_shares([1, 14, 90], 0.4), [0.2, 0.4, 0.4])
    rows = points((0, 0), (0, 0), (1, 1))
    found = Limited(Mean(), 0.4).aggregate(rows, [1, 1, 998], START)
    np.testing.assert_allclose(found.floats, [0.4, 0.4])


def test_coordinates_are_joined_in_blocks_of_any_size(monkeypatch):
    members = [Weights(np.arange(7, dtype=np.float32) * k) for k in (1, 2, 9)]
    monkeypatch.setattr(aggregation, "COLUMNS", 3)
    found = by_coordinate(members, lambda columns: np.median(columns, axis=0))
    np.testing.assert_array_equal(found.floats, 2.0 * np.arange(7))
    with pytest.raises(ValueError, match="no members"):
        by_coordinate([], np.median)
    with pytest.raises(ValueError, match="differ in shape"):
        by_coordinate([members[0], START], np.median)


def test_settings_say_how_members_are_joined():
    config = {"aggregator": "trimmed-mean", "assumed-liars": 0.3}
    made = make_aggregator(Settings.from_run_config(config))
    assert isinstance(made, TrimmedMean)
    assert made.assumed_liars == 0.3
    capped = make_aggregator(Settings.from_run_config({"max-weight-share": 0.25}))
    assert isinstance(capped, Limited)
    assert (type(capped.aggregator), capped.most) == (Mean, 0.25)
    assert type(make_aggregator(Settings.from_run_config({}))) is Mean
