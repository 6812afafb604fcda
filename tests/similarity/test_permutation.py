"""Permutation tests: what chance is, and how often less than a level comes by chance."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from feddag_flwr.similarity.permutation import (
    LIKE,
    LikeSizes,
    p_value,
    traded_classes,
)

seeds = st.integers(0, 2**32 - 1)
some = settings(max_examples=60)


class Draws:
    """Values to draw one after the other, counted."""

    def __init__(self, values):
        self.values, self.taken = iter(values), 0

    def __call__(self):
        self.taken += 1
        return next(self.values)


# -- p_value ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2, 5, 7])
def test_ten_draws_with_as_much_end_it(every):
    """Each `every`-th draw reaches what was seen: the tenth such is number 10 * every."""
    draws = Draws(float(k % every == 0) for k in itertools.count(1))
    assert p_value(1.0, draws, 0.001) == 10 / (10 * every)
    assert draws.taken == 10 * every


@pytest.mark.parametrize(("level", "limit"), [(0.01, 200), (0.05, 40), (0.03, 67), (0.5, 4)])
@pytest.mark.parametrize("reached", [0, 1, 3])
def test_few_draws_with_as_much_end_at_the_limit(level, limit, reached):
    """The limit is two over the level, rounded up; what was seen counts as one of the draws."""
    draws = Draws([2.0] * reached + [0.0, 0.9] * 500)
    assert p_value(1.0, draws, level) == (1 + reached) / (limit + 1)
    assert draws.taken == limit


def test_nothing_reached_is_below_the_level():
    for level in (0.001, 0.01, 0.05, 0.3, 1.0):
        assert p_value(1.0, lambda: 0.0, level) <= level


def test_the_tenth_at_the_very_limit_still_counts():
    draws = Draws([0.0] * 30 + [1.0] * 10)
    assert p_value(1.0, draws, 0.05) == 10 / 40
    assert draws.taken == 40


@pytest.mark.parametrize("seen", [3.0, -3.0, 1e9, 0.0])
def test_a_tie_counts_as_reached_also_but_for_rounding(seen):
    assert p_value(seen, lambda: seen, 0.05) == 1.0
    assert p_value(seen, lambda: seen - 1e-11 * abs(seen), 0.05) == 1.0
    assert p_value(seen, lambda: seen - 1e-6 * max(abs(seen), 1.0), 0.05) == 1 / 41


@pytest.mark.parametrize("level", [0.05, 0.2])
@pytest.mark.parametrize("values", [None, 4])
def test_chance_is_below_a_level_as_seldom_as_it_says(level, values):
    """What was seen is drawn as the draws are, continuous or of few values (ties)."""
    rng = np.random.default_rng(1)
    experiments = 2000

    def one():
        return float(rng.random() if values is None else rng.integers(values))

    found = np.array([p_value(one(), one, level) for _ in range(experiments)])
    for at in (level, level / 2, 2 * level):
        assert np.sum(found <= at) <= binom.ppf(0.9999, experiments, at)
    if values is None:  # and not much more seldom: the test has power
        assert np.sum(found <= level) >= binom.ppf(0.0001, experiments, 0.9 * level)


# -- LikeSizes -------------------------------------------------------------------------------------


def shuffled_among_like(sizes, rng):
    return LikeSizes.of([sizes]).shuffled(rng)[0]


@given(seeds, st.lists(st.lists(st.integers(1, 50), max_size=30), max_size=5))
@some
def test_classes_are_shuffled_as_each_by_itself(seed, sizes):
    """One after the other, whatever the other classes are; what is left over stays."""
    found = LikeSizes.of([np.array(one, dtype=np.intp) for one in sizes]).shuffled(
        np.random.default_rng(seed)
    )
    rng, most = np.random.default_rng(seed), max(map(len, sizes), default=0)
    assert found.shape == (len(sizes), most)
    for of_class, row in zip(sizes, found, strict=True):
        alone = shuffled_among_like(np.array(of_class, dtype=np.intp), rng)
        assert row.tolist() == [*alone.tolist(), *range(len(of_class), most)]


@given(seeds, st.lists(st.integers(1, 50), max_size=60))
@some
def test_clients_are_put_in_each_others_places(seed, sizes):
    found = shuffled_among_like(np.array(sizes, dtype=np.intp), np.random.default_rng(seed))
    assert sorted(found.tolist()) == list(range(len(sizes)))


@given(seeds, st.integers(1, 80))
@some
def test_clients_stay_among_those_of_like_size(seed, number):
    rng = np.random.default_rng(seed)
    ranks = rng.permutation(number)
    found = shuffled_among_like(ranks * 100 + 7, rng)
    assert np.abs(ranks[found] - ranks).max() < LIKE


def test_few_clients_come_to_every_place_of_like_size():
    """Two of nearly the same size are apart only where a run or a doubling begins between them."""
    rng = np.random.default_rng(0)
    sizes, draws = np.array([30, 32, 34, 36, 38]), 2000
    came = np.zeros((5, 5))
    for _ in range(draws):
        came[np.arange(5), shuffled_among_like(sizes, rng)] += 1
    assert came.min() > 0.05 * draws


def test_sizes_that_double_are_never_mixed():
    rng = np.random.default_rng(0)
    sizes = np.array([1] * 7 + [2] * 7 + [100] * 6)
    for _ in range(200):
        np.testing.assert_array_equal(sizes[shuffled_among_like(sizes, rng)], sizes)


def test_neighbours_in_size_meet_wherever_they_are():
    rng = np.random.default_rng(0)
    sizes = np.arange(30, 60)
    met = np.zeros(29, dtype=bool)
    for _ in range(600):
        found = shuffled_among_like(sizes, rng)
        met |= found[:-1] == np.arange(1, 30)
    assert met.all()


def test_what_lies_far_beyond_the_first_hundred_draws_ends_them():
    """By Cantelli a value 30 deviations above the mean comes once in 901 times at most."""
    draws = Draws([-1.0, 1.0] * 50 + [0.0] * 1000)
    spread = np.std([-1.0, 1.0] * 50, ddof=1)
    assert p_value(30 * spread, draws, 0.002) == pytest.approx(1 / 901)
    assert draws.taken == 100
    near = Draws([-1.0, 1.0] * 50 + [0.0] * 1000)
    assert p_value(20 * spread, near, 0.002) == 1 / 1001
    assert near.taken == 1000


def test_equal_sizes_are_dealt_to_all():
    """Clients of one size are in no order: the first may come to the last one's place."""
    rng = np.random.default_rng(0)
    came = {int(shuffled_among_like(np.full(40, 9), rng)[0]) for _ in range(600)}
    assert came == set(range(40))


# -- traded_classes --------------------------------------------------------------------------------

tables = st.integers(0, 9).flatmap(
    lambda clients: st.integers(1, 6).flatmap(
        lambda classes: st.lists(
            st.lists(st.booleans(), min_size=classes, max_size=classes),
            min_size=clients,
            max_size=clients,
        ).map(lambda rows: np.array(rows, dtype=bool).reshape(clients, classes))
    )
)


@given(seeds, tables)
@some
def test_clients_hold_as_many_classes_and_classes_as_many_clients(seed, held):
    before = held.copy()
    found = traded_classes(held, np.random.default_rng(seed))
    np.testing.assert_array_equal(held, before)
    assert found.dtype == bool
    assert found.shape == held.shape
    np.testing.assert_array_equal(found.sum(axis=0), before.sum(axis=0))
    np.testing.assert_array_equal(found.sum(axis=1), before.sum(axis=1))


def tables_with_margins_of(held):
    """All tables with its margins, one by one among all tables there are."""
    found = []
    for entries in itertools.product([False, True], repeat=held.size):
        table = np.reshape(entries, held.shape)
        if (table.sum(0) == held.sum(0)).all() and (table.sum(1) == held.sum(1)).all():
            found.append(table.tobytes())
    return found


@pytest.mark.parametrize(
    "rows",
    [
        ["100", "010", "001"],
        ["110", "100", "001"],
        ["1100", "0110", "0011"],
        ["111", "100", "010", "001"],
    ],
)
def test_all_tables_come_as_often(rows):
    held = np.array([[mark == "1" for mark in row] for row in rows])
    possible = tables_with_margins_of(held)
    assert len(possible) > 3
    rng = np.random.default_rng(3)
    came = Counter()
    for _ in range(1200):
        held = traded_classes(held, rng)
        came[held.tobytes()] += 1
    assert set(came) <= set(possible)
    assert chisquare([came[table] for table in possible]).pvalue > 1e-4


def test_who_holds_all_or_nothing_has_nothing_to_trade():
    held = np.array([[True] * 4, [False] * 4, [True, False, True, False], [True] * 4])
    found = traded_classes(held, np.random.default_rng(0))
    np.testing.assert_array_equal(found[[0, 1, 3]], held[[0, 1, 3]])
