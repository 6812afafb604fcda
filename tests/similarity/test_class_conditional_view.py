"""The class-conditional view: groups that look alike in all classes, and nobody else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import bases_of, same_groups
from scipy.cluster.hierarchy import linkage
from scipy.stats import binom

from feddag_flwr.similarity import class_conditional_view
from feddag_flwr.similarity.class_conditional_view import (
    ClassConditionalView,
    last_merge_of_groups,
)
from feddag_flwr.similarity.subspace import class_angles, class_angles_to, seen_counts

LEVEL = 0.05


def view_of(groups, counts, rng, **looks):
    bases = bases_of(groups, counts, rng, **looks)
    return ClassConditionalView.of(class_angles(bases, counts), seen_counts(bases, counts)), bases


def very_different_sizes(rng, clients, classes):
    """From 5 to 3000 samples a class, as many in each."""
    sizes = np.exp(rng.uniform(np.log(5), np.log(3000), clients))
    return np.tile(sizes.astype(int)[:, None], (1, classes))


# -- the test --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(10, 10), (15, 5), (7, 7, 7), (20, 2)])
def test_groups_are_seen(shares):
    groups = np.repeat(np.arange(len(shares)), shares)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        counts = rng.integers(20, 200, (len(groups), 6))
        view, _ = view_of(groups, counts, rng)
        assert view.can_tell
        assert view.test(0.01, rng) <= 0.01


def test_groups_are_seen_where_clients_lack_classes():
    groups = np.arange(24) % 2
    rng = np.random.default_rng(0)
    counts = rng.integers(20, 200, (24, 8)) * (rng.random((24, 8)) < 0.6)
    view, _ = view_of(groups, counts, rng)
    assert view.test(0.01, rng) <= 0.01
    assert same_groups(view.split(rng), groups)


def false_alarms(counts_of, seeds=100):
    """How often clients of one kind are parted."""
    parted = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        counts = counts_of(rng)
        view, _ = view_of(np.zeros(len(counts), dtype=int), counts, rng)
        if view.test(LEVEL, rng) <= LEVEL:
            parted += view.split(rng) is not None
    return parted


@pytest.mark.parametrize(
    "counts_of",
    [
        lambda rng: very_different_sizes(rng, 24, 5),
        lambda rng: rng.integers(5, 3000, (16, 4)),
        lambda rng: very_different_sizes(rng, 16, 5) * (rng.random((16, 5)) < 0.7),
    ],
    ids=["one size a client", "one size a class", "classes are lacking"],
)
def test_clients_of_one_kind_are_seldom_parted(counts_of):
    assert false_alarms(counts_of) <= binom.ppf(0.999, 100, LEVEL)


def test_clients_of_one_sample_a_class_beside_large_ones_are_seldom_parted():
    alarms = false_alarms(lambda rng: np.tile(rng.choice([1, 1, 100], (24, 1)), (1, 10)), seeds=20)
    assert alarms <= binom.ppf(0.999, 20, LEVEL)


def test_what_differs_in_one_class_only_is_no_group():
    """Two kinds of each class, but each class has its own: nobody is alike twice."""
    parted = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        counts = np.full((20, 4), 100)
        bases = [bases_of(rng.permutation(np.arange(20) % 2), counts[:, :1], rng) for _ in range(4)]
        angles = class_angles(np.concatenate(bases, axis=1), counts)
        parted += ClassConditionalView.of(angles, counts).test(LEVEL, rng) <= LEVEL
    assert parted <= binom.ppf(0.999, 40, LEVEL)


def test_one_class_cannot_tell():
    rng = np.random.default_rng(0)
    counts = np.full((12, 3), 50)
    counts[:9, 1:] = 0  # held by three: too few
    view, _ = view_of(np.arange(12) % 2, counts, rng)
    assert not view.can_tell
    counts[8, 1] = 50
    assert view_of(np.arange(12) % 2, counts, rng)[0].can_tell


def test_clients_that_all_look_equally_different_are_not_parted():
    angles = np.full((4, 20, 20), 50.0, dtype=np.float32)
    angles[:, np.arange(20), np.arange(20)] = 0.0
    view = ClassConditionalView.of(angles, np.full((20, 4), 30))
    assert not view.can_tell or view.test(LEVEL, np.random.default_rng(0)) > LEVEL


# -- the split -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(20, 200), (5, 3000)])
@pytest.mark.parametrize("seed", range(5))
def test_two_groups_are_the_sides(sizes, seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat([0, 1], [8, 14]))
    view, _ = view_of(groups, rng.integers(*sizes, (22, 6)), rng, unlike=1.0)
    view.test(0.01, rng)
    assert same_groups(view.split(rng), groups)


@pytest.mark.parametrize("seed", range(8))
def test_a_split_keeps_each_of_three_groups_whole(seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat([0, 1, 2], 7))
    view, _ = view_of(groups, rng.integers(20, 200, (21, 6)), rng)
    view.test(0.01, rng)
    sides = view.split(rng)
    assert set(sides.tolist()) == {0, 1}
    for group in range(3):
        assert len(set(sides[groups == group])) == 1


def test_who_is_on_no_side_goes_to_the_nearer(monkeypatch):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([0, 1], 10))
    view, _ = view_of(groups, rng.integers(20, 200, (20, 6)), rng)
    view.test(0.01, rng)
    cut = np.where(np.arange(20) % 5 == 0, -1, groups)
    monkeypatch.setattr(class_conditional_view, "last_merge_of_groups", lambda merges: cut)
    assert view.split(rng).tolist() == groups.tolist()


# -- the last merge --------------------------------------------------------------------------------


def merges_of(*pairs):
    """Linkage of the form of scipy, of clusters merged in turn (heights and sizes are not read)."""
    return np.array([[min(pair), max(pair), height, 0] for height, pair in enumerate(pairs)], float)


@pytest.mark.parametrize(
    ("merges", "expected"),
    [
        # ((0 1) (2 3)), merged as 4 and 5
        (merges_of((0, 1), (2, 3), (4, 5)), [0, 0, 1, 1]),
        # (((0 1) (2 3)) 4): client 4 comes last, by itself
        (merges_of((0, 1), (2, 3), (5, 6), (4, 7)), [0, 0, 1, 1, -1]),
        # ((((3 4) (0 1)) 5) 2): two come in after
        (merges_of((3, 4), (0, 1), (6, 7), (5, 8), (2, 9)), [1, 1, -1, 0, 0, -1]),
        # (((0 1) 2) ((3 4) 5)): single clients within the groups are members
        (merges_of((0, 1), (3, 4), (2, 6), (5, 7), (8, 9)), [0, 0, 0, 1, 1, 1]),
        # (((0 1) (2 3)) (4 5)): the last merge counts, not the one within a side
        (merges_of((0, 1), (2, 3), (6, 7), (4, 5), (8, 9)), [0, 0, 0, 0, 1, 1]),
    ],
)
def test_the_last_merge_of_two_groups_makes_the_sides(merges, expected):
    assert last_merge_of_groups(merges).tolist() == expected


@pytest.mark.parametrize(
    "merges", [merges_of((0, 1)), merges_of((0, 1), (2, 3)), merges_of((2, 3), (0, 4), (1, 5))]
)
def test_a_chain_of_single_clients_has_no_groups(merges):
    assert last_merge_of_groups(merges) is None


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from(["average", "single"]))
@settings(max_examples=40)
def test_sides_have_two_clients_at_least_and_nobody_between_is_cut_off(seed, clients, method):
    merges = linkage(np.random.default_rng(seed).standard_normal((clients, 2)), method)
    sides = last_merge_of_groups(merges)
    below = [{client} for client in range(clients)]
    for left, right in merges[:, :2].astype(int):
        below.append(below[left] | below[right])
    if sides is None:
        assert all(
            min(len(below[int(left)]), len(below[int(right)])) == 1 for left, right in merges[:, :2]
        )
        return
    zero, one = ({int(client) for client in np.flatnonzero(sides == side)} for side in (0, 1))
    assert min(len(zero), len(one)) >= 2
    assert zero in below
    assert one in below
    assert zero | one in below


# -- others ----------------------------------------------------------------------------------------


def test_others_go_to_the_side_they_look_like():
    rng = np.random.default_rng(5)
    groups = np.arange(30) % 2
    counts = rng.integers(20, 200, (30, 6))
    counts[-2:, 1:] = 0  # by one class
    view, bases = view_of(groups, counts, rng)
    founders, late = slice(0, 20), slice(20, None)
    seen = seen_counts(bases, counts)
    view = ClassConditionalView.of(class_angles(bases[founders], counts[founders]), seen[founders])
    for side in (groups[founders], 1 - groups[founders]):
        for others in (founders, late):
            angles = class_angles_to(
                bases[others], counts[others], bases[founders], counts[founders]
            )
            found = view.place(angles, seen[others], side)
            assert found.tolist() == np.resize(side[:2], len(found)).tolist()


@pytest.mark.parametrize(("share", "larger"), [(8, 0), (4, 1)])
def test_who_shares_no_class_goes_to_the_larger_side(share, larger):
    rng = np.random.default_rng(0)
    counts = rng.integers(20, 200, (12, 4))
    counts[:, 3] = 0
    view, _ = view_of(np.repeat([0, 1], [share, 12 - share]), counts, rng)
    sides = np.repeat([0, 1], [share, 12 - share])
    seen = np.array([[0, 0, 0, 30], [0, 0, 0, 0]])
    assert view.place(np.full((4, 2, 12), 90.0), seen, sides).tolist() == [larger] * 2


def test_a_class_of_one_side_only_says_nothing():
    """The first class is held by the smaller side alone: its copies go to the larger."""
    rng = np.random.default_rng(0)
    sides = np.repeat([0, 1], [5, 9])
    counts = np.full((14, 3), 60)
    counts[sides == 1, 0] = 0
    view, bases = view_of(sides, counts, rng)
    only_first = counts[:5] * [1, 0, 0]
    angles = class_angles_to(bases[:5], only_first, bases, counts)
    assert view.place(angles, only_first, sides).tolist() == [1] * 5
