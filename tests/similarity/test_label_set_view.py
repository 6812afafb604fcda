"""The label-set view: groups of clients that hold the same classes, and chance that makes none."""

import numpy as np
import pytest
from looks import same_groups
from scipy.stats import binom

from feddag_flwr.similarity.label_set_view import LabelSetView

LEVEL = 0.05


def held_by(*sets, classes=10):
    """Whether each client holds each class."""
    return np.array([[label in each for label in range(classes)] for each in sets])


def parted(held, rng, level=LEVEL):
    """Groups that clients are parted into; all 0 where they are not."""
    view = LabelSetView(held)
    if view.can_tell and view.test(level, rng) <= level:
        return view.split(rng)
    return np.zeros(len(held), dtype=int)


# -- groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [2, 5, 20])
def test_five_groups_of_a_fifth_of_the_classes(members):
    groups = np.repeat(np.arange(5), members)
    held = np.zeros((len(groups), 10), dtype=bool)
    held[np.arange(len(groups)), 2 * groups] = held[np.arange(len(groups)), 2 * groups + 1] = True
    assert same_groups(parted(held, np.random.default_rng(0), 0.001), groups)


@pytest.mark.parametrize("seed", range(2))
def test_eleven_pairs_of_classes_that_overlap(seed):
    rng = np.random.default_rng(seed)
    pairs = [{label, (label + 1) % 10} for label in range(10)] + [{0, 5}]
    groups = rng.permutation(np.repeat(np.arange(11), 9))
    held = held_by(*(pairs[group] for group in groups))
    assert not LabelSetView(held).are_apart
    assert same_groups(parted(held, rng, 0.01), groups)


@pytest.mark.parametrize("seed", range(3))
def test_groups_that_share_half_of_their_classes(seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat([0, 1, 2], 8))
    sets = [{0, 1, 2, 3}, {0, 1, 4, 5}, {0, 1, 6, 7}]
    held = held_by(*(sets[group] for group in groups), classes=8)
    assert same_groups(parted(held, rng, 0.01), groups)


@pytest.mark.parametrize("seed", range(3))
def test_members_that_lack_classes_by_chance_are_not_put_with_others(seed):
    """One that is left with a single class may stand by itself (seed 0)."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([0, 1], 20)
    sets = np.array([[1] * 6 + [0] * 4, [0] * 4 + [1] * 6], dtype=bool)
    found = parted(sets[groups] & (rng.random((40, 10)) < 0.85), rng, 0.01)
    together = np.array([np.bincount(found[groups == group], minlength=3) for group in (0, 1)])
    assert (np.count_nonzero(together, axis=0) <= 1).all()
    assert together.max(axis=1).min() >= 19


# -- chance ----------------------------------------------------------------------------------------


def false_alarms(draw, seeds):
    count = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        count += parted(draw(rng), rng).any()
    return count


def few_of_all(rng):
    """Two of ten classes each, at random."""
    return np.argsort(rng.random((60, 10)), axis=1) < 2


def as_many_as_it_likes(rng):
    """Some classes are rare, and some clients hold few."""
    odds = rng.uniform(-2, 2, (24, 1)) + rng.uniform(-2, 2, 8)
    return rng.random((24, 8)) < 1 / (1 + np.exp(-odds))


def small_beside_large(rng):
    """Twelve with all classes, and twelve with those of five samples."""
    held = np.ones((24, 10), dtype=bool)
    held[12:] = rng.multinomial(5, np.full(10, 0.1), 12) > 0
    return held


@pytest.mark.parametrize(
    ("draw", "seeds"), [(few_of_all, 100), (as_many_as_it_likes, 20), (small_beside_large, 20)]
)
def test_classes_held_by_chance_seldom_part_clients(draw, seeds):
    assert false_alarms(draw, seeds) <= binom.ppf(0.999, seeds, LEVEL)


def test_a_client_with_half_of_the_classes_is_no_group():
    held = np.ones((12, 10), dtype=bool)
    held[0, 5:] = False
    assert not parted(held, np.random.default_rng(0)).any()


def test_the_same_classes_or_one_that_differs_cannot_tell():
    everywhere = np.ones((9, 4), dtype=bool)
    assert not LabelSetView(everywhere).can_tell
    one = everywhere.copy()
    one[:5, 0] = False
    assert not LabelSetView(one).can_tell
    two = one.copy()
    two[3:, 1] = False
    assert LabelSetView(two).can_tell
    nobody_has = np.hstack([one, np.zeros((9, 3), dtype=bool)])
    assert not LabelSetView(nobody_has).can_tell


# -- clients that share nothing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "apart"),
    [
        ([{0, 1}, {1}, {2}, {2, 3}], True),
        ([{0}, {0, 1}, {1, 2}, {2}], False),  # through others
        ([{0}, {0}, {0}, {1}], False),  # one by itself
        ([{0}, {0}, set(), set()], False),  # who holds nothing shares nothing
        ([{0}, {0}, {1}, {1}, set()], True),
        ([{0}, {1}, {2}, {3}], False),
        ([{7}, {2}, {7}, {2}], True),
    ],
)
def test_clients_are_apart_that_share_no_class_even_through_others(sets, apart):
    assert LabelSetView(held_by(*sets)).are_apart is apart


def test_who_is_apart_is_parted_for_certain():
    view = LabelSetView(held_by({0, 1}, {2, 3}, {1}, {4}, {2}))
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert view.can_tell
    assert view.test(1e-9, rng) == 0.0
    assert same_groups(view.split(rng), [0, 1, 0, 2, 1])
    assert rng.bit_generator.state == before


def test_two_and_two_with_a_class_each_are_apart():
    """Too few for any test, and two columns that say the same."""
    view = LabelSetView(held_by({0}, {0}, {1}, {1}, classes=2))
    assert view.test(0.001, np.random.default_rng(0)) == 0.0
    assert same_groups(view.split(np.random.default_rng(0)), [0, 0, 1, 1])


# -- others ----------------------------------------------------------------------------------------


def test_others_go_to_the_group_of_the_least_mean_distance():
    """By hand: distances to {0 1}, {0 1 2} and to {2 3}, {3}, {3 4}, and their means.

    {0}:     1/2 2/3       and 1   1   1     7/12 and 1
    {2 3}:   1   3/4       and 0   1/2 2/3   7/8  and 7/18
    {0 2}:   2/3 1/3       and 2/3 1   1     1/2  and 8/9
    {1 3}:   2/3 3/4       and 2/3 1/2 2/3   17/24 and 11/18
    {0 3 4}: 3/4 4/5       and 3/4 2/3 1/3   31/40 and 7/12
    {0 1 3}: 1/3 1/2       and 3/4 2/3 3/4   5/12 and 13/18
    """
    view = LabelSetView(held_by({0, 1}, {2, 3}, {3}, {0, 1, 2}, {3, 4}, classes=6))
    groups = np.array([0, 1, 1, 0, 1])
    others = held_by({0}, {2, 3}, {0, 2}, {1, 3}, {0, 3, 4}, {0, 1, 3}, classes=6)
    counts = others * np.array([1, 200, 3, 40, 5, 6])  # how many samples there are says nothing
    assert view.place(counts, groups).tolist() == [0, 1, 0, 1, 1, 0]
    assert view.place(counts, 1 - groups).tolist() == [1, 0, 1, 0, 0, 1]


def test_a_large_group_is_not_nearer_for_its_size():
    view = LabelSetView(held_by(*[{0, 1, 2}] * 30, *[{2, 3}] * 2))
    groups = np.repeat([0, 1], [30, 2])
    assert view.place(held_by({3}, {2, 3}, {2}, {0}) * 9, groups).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_copies_go_where_they_come_from(seed):
    rng = np.random.default_rng(seed)
    sets = [{0, 1, 2}, {2, 3, 4}, {4, 5, 0}]
    groups = rng.permutation(np.repeat([0, 1, 2], 6))
    held = held_by(*(sets[group] for group in groups))
    assert LabelSetView(held).place(held * 5, groups).tolist() == groups.tolist()


def test_clients_that_share_but_a_class_that_all_hold_are_apart():
    held = np.array([[1, 1, 0, 0]] * 3 + [[0, 1, 1, 1]] * 3, dtype=bool)
    view = LabelSetView(held)
    assert view.are_apart
    np.testing.assert_array_equal(view.split(np.random.default_rng(0)), [0, 0, 0, 1, 1, 1])


def test_who_holds_but_what_all_hold_keeps_the_others_together():
    held = np.array([[1, 1, 0]] * 3 + [[0, 1, 1]] * 3 + [[0, 1, 0]], dtype=bool)
    assert not LabelSetView(held).are_apart
