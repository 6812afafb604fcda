"""The tree of tests: groups within groups, each at its level, and others put into its leaves."""

import json
from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import bases_of, same_groups
from scipy.stats import binom

from feddag_flwr.similarity import group_tree
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.group_tree import CLASS_CONDITIONAL, LABEL_SET, GroupTree, Part

RATE = 0.01


def only(data, rows):
    return ClassSubspaces(data.bases[rows], data.counts[rows], data.angle)


def data_of(groups, counts, rng, **looks):
    return ClassSubspaces(bases_of(groups, counts, rng, **looks), counts, "vectors")


def looks_only(rng, groups, late=0):
    """Clients, and late ones, that hold all classes; groups differ in looks."""
    counts = rng.integers(20, 200, (len(groups), 6))
    whole = data_of(groups, counts, rng)
    rows = np.arange(len(groups))
    return only(whole, rows[: len(rows) - late]), only(whole, rows[len(rows) - late :])


def nested(rng):
    """10 clients with classes 0 to 3, 8 and 8 of two looks with classes 3 to 6; labels (26,)."""
    groups = rng.permutation(np.repeat([0, 1, 2], [10, 8, 8]))
    counts = rng.integers(20, 200, (26, 7))
    counts[groups == 0, 4:] = 0
    counts[groups != 0, :3] = 0
    return data_of(np.where(groups == 2, 1, 0), counts, rng), groups


@cache
def grown(seed):
    """Nested groups, their labels, the tree and its leaves; nobody may change them."""
    data, groups = nested(np.random.default_rng(seed))
    return data, groups, *GroupTree.grow(data, RATE)


def leaf(clients=1):
    none = np.zeros(0, dtype=np.intp)
    return Part(clients, {}, RATE, "", none, none, ())


def parting(*children):
    none = np.zeros(0, dtype=np.intp)
    return Part(2, {LABEL_SET: 0.0}, RATE, LABEL_SET, none, none, children)


# -- groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_looks_within_groups_of_classes_are_leaves(seed):
    _, groups, tree, leaves = grown(seed)
    assert same_groups(leaves, groups)
    assert sorted(set(leaves.tolist())) == [0, 1, 2]
    assert [part.view for part in tree.root.partings()] == [LABEL_SET, CLASS_CONDITIONAL]
    first, one, other = (leaves[groups == group][0] for group in range(3))
    assert tree.heights[first, one] == tree.heights[first, other] == 1.0
    assert tree.heights[one, other] == 0.5


def test_the_parts_say_who_was_tested_and_what_came_of_it():
    _, groups, tree, leaves = grown(0)
    root = tree.root
    inner = next(part for part in root.children if part.children)
    assert root.tested.tolist() == list(range(26))
    assert inner.tested.tolist() == np.flatnonzero(groups > 0).tolist()
    for part in (root, inner):
        assert part.clients == sum(child.clients for child in part.children) == len(part.groups)
        assert part.chances[part.view] == min(part.chances.values()) <= part.level
    assert [part.clients for part in inner.children] == [8, 8]
    assert same_groups(inner.groups, leaves[inner.tested])


def test_a_part_has_its_clients_share_of_the_rate_and_a_view_its_share_of_that():
    root = grown(0)[2].root
    assert set(root.chances) == {LABEL_SET, CLASS_CONDITIONAL}
    assert root.level == pytest.approx(RATE / 2)
    for part in root.children:  # of equal classes each: only looks can tell
        assert set(part.chances) == {CLASS_CONDITIONAL}
        assert part.level == pytest.approx(RATE * part.clients / 26)
    inner = next(part for part in root.children if part.children)
    assert [part.level for part in inner.children] == pytest.approx([RATE * 8 / 26] * 2)


def test_clients_of_one_kind_are_seldom_parted():
    parted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        counts = np.tile(rng.integers(5, 3000, (16, 1)), (1, 5))
        leaves = GroupTree.grow(data_of(np.zeros(16, dtype=int), counts, rng), 0.05)[1]
        parted += leaves.any()
    assert parted <= binom.ppf(0.999, 60, 0.05)


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_fewer_than_four_clients_are_one_leaf(clients):
    counts = np.eye(3, dtype=int)[:clients] * 50
    data = data_of(np.arange(clients), counts, np.random.default_rng(0))
    tree, leaves = GroupTree.grow(data, 1.0)
    assert leaves.tolist() == [0] * clients
    assert (tree.root.clients, tree.root.children, tree.root.chances) == (clients, (), {})
    assert tree.ways == [()]
    assert tree.heights.tolist() == [[0.0]]
    assert tree.place(data, data).tolist() == [0] * clients


def test_two_and_two_with_a_class_each_are_two_leaves():
    counts = np.array([[9, 0], [0, 9], [9, 0], [0, 9]])
    leaves = GroupTree.grow(data_of(np.zeros(4, dtype=int), counts, np.random.default_rng(0)), RATE)
    assert same_groups(leaves[1], [0, 1, 0, 1])


def test_the_same_clients_give_the_same_tree():
    _, _, one, leaves = grown(1)
    other, same = GroupTree.grow(nested(np.random.default_rng(1))[0], RATE)
    assert one.root.notes() == other.root.notes()
    np.testing.assert_array_equal(leaves, same)


@pytest.mark.parametrize("seed", range(2))
def test_who_is_not_tested_goes_with_those_that_it_is_like(seed, monkeypatch):
    monkeypatch.setattr(group_tree, "TESTED", 30)
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat([0, 1, 2], 40))
    data, _ = looks_only(rng, groups)
    tree, leaves = GroupTree.grow(data, RATE)
    assert same_groups(leaves, groups)
    np.testing.assert_array_equal(tree.place(data, data), leaves)
    assert [part.clients for part in tree.root.partings()] == [120, 80]
    for part in tree.root.partings():
        assert len(set(part.tested.tolist())) == len(part.groups) == 30


def test_who_is_not_tested_goes_with_those_of_its_classes(monkeypatch):
    monkeypatch.setattr(group_tree, "TESTED", 30)
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([0, 1, 2], 40))
    sets = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 1, 1]])
    data = data_of(np.zeros(120, dtype=int), sets[groups] * rng.integers(9, 60, (120, 1)), rng)
    tree, leaves = GroupTree.grow(data, RATE)
    assert tree.root.view == LABEL_SET
    assert same_groups(leaves, groups)


def test_classes_kept_back_are_held_but_not_seen():
    data, _ = nested(np.random.default_rng(0))
    data.bases[:5, 3] = 0.0
    assert not data.seen[:5, 3].any()
    np.testing.assert_array_equal(data.seen[5:], data.counts[5:])
    np.testing.assert_array_equal(data.seen[:, 4:], data.counts[:, 4:])


# -- heights ---------------------------------------------------------------------------------------

trees = st.recursive(
    st.builds(leaf),
    lambda parts: st.lists(parts, min_size=2, max_size=3).map(lambda c: parting(*c)),
)


@given(trees)
@settings(max_examples=60)
def test_heights_are_an_ultrametric(root):
    heights = GroupTree(root).heights
    assert heights.shape == (len(list(root.leaves())),) * 2
    np.testing.assert_array_equal(heights, heights.T)
    assert not np.diagonal(heights).any()
    assert (heights[~np.eye(len(heights), dtype=bool)] > 0.0).all()
    assert (heights <= np.maximum(heights[:, :, None], heights[None]).min(axis=1) + 1e-15).all()
    if root.children:  # leaves of two children of the root are 1 apart
        child = np.array([way[0] for way in GroupTree(root).ways])
        np.testing.assert_array_equal(heights == 1.0, child[:, None] != child)


def test_heights_by_hand():
    """((A B) C (D (E F))): three partings deep at most."""
    tree = GroupTree(
        parting(parting(leaf(), leaf()), leaf(), parting(leaf(), parting(leaf(), leaf())))
    )
    assert tree.ways == [(0, 0), (0, 1), (1,), (2, 0), (2, 1, 0), (2, 1, 1)]
    expected = np.ones((6, 6)) - np.eye(6)
    for one, other in permutations([3, 4, 5], 2):
        expected[one, other] = 2 / 3
    expected[0, 1] = expected[1, 0] = 2 / 3
    expected[4, 5] = expected[5, 4] = 1 / 3
    np.testing.assert_allclose(tree.heights, expected)


# -- others, and notes -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_founders_come_into_their_leaves(seed):
    data, _, tree, leaves = grown(seed)
    assert leaves.max() == 2
    order = np.random.default_rng(seed).permutation(26)
    np.testing.assert_array_equal(tree.place(data, only(data, order)), leaves[order])


def test_others_come_into_the_leaf_of_their_group_each_by_itself():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([0, 1, 2], 12))
    founders, late = looks_only(rng, groups, late=9)
    tree, leaves = GroupTree.grow(founders, RATE)
    assert same_groups(leaves, groups[:-9])
    together = tree.place(founders, late)
    assert same_groups([*leaves, *together], groups)
    alone = [tree.place(founders, only(late, np.array([row])))[0] for row in range(9)]
    np.testing.assert_array_equal(together, alone)


def test_notes_are_json_and_make_the_same_tree():
    data, _, tree, _ = grown(2)
    notes = tree.root.notes()
    again = GroupTree(Part.of_notes(json.loads(json.dumps(notes))))
    assert again.root.notes() == notes
    assert notes["clients"] == 26
    assert notes["view"] == LABEL_SET
    assert again.ways == tree.ways
    np.testing.assert_array_equal(again.heights, tree.heights)
    np.testing.assert_array_equal(again.place(data, data), tree.place(data, data))


def test_the_angle_is_that_of_the_settings():
    rng = np.random.default_rng(0)
    frames = np.linalg.qr(rng.standard_normal((6, 2, 12, 2)))[0].swapaxes(2, 3)
    counts, rows = np.full((6, 2), 9), np.arange(6)
    vectors, principal = (
        ClassSubspaces(frames.astype(np.float32), counts, angle).angles(rows)
        for angle in ("vectors", "principal")
    )
    apart = ~np.eye(6, dtype=bool)
    assert (principal[:, apart] < vectors[:, apart]).all()
