"""Eq. 11 to 14: demand, supply, alignment and the graph of teachers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feddag_flwr.clustering.complementarity import (
    PAIRED,
    complementarity,
    drawn_members,
    rarity_ranks,
)
from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.similarity import matrices

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

# Clients A, B in cluster 0, C in 1, D in 2; three classes.
COUNTS = np.array([[10, 5, 0], [0, 5, 10], [4, 4, 4], [0, 0, 7]])
LABELS = np.array([0, 0, 1, 2])


def symmetric(entries):
    """Angles (C, 4, 4) from the upper triangles AB, AC, AD, BC, BD, CD of the classes."""
    angles = np.zeros((len(entries), 4, 4))
    for matrix, upper in zip(angles, entries, strict=True):
        matrix[np.triu_indices(4, 1)] = upper
        matrix += matrix.T
    return angles


ANGLES = symmetric(
    [
        [90, 45, 90, 90, 0, 90],
        [0, 0, 90, 90, 90, 90],
        [90, 90, 90, 0, 30, 60],
    ]
)


def slow(counts, angles, labels, aligned):
    """Eq. 11 to 14 in plain Python."""
    clients, classes = counts.shape
    clusters = max(labels) + 1
    members = [[i for i in range(clients) if labels[i] == z] for z in range(clusters)]
    demand = [[0.0] * classes for _ in range(clusters)]
    supply = [[0.0] * classes for _ in range(clusters)]
    for z, group in enumerate(members):
        for i in group:
            present = sorted((counts[i, c], c) for c in range(classes) if counts[i, c] > 0)
            for rank, (_, c) in enumerate(present):
                demand[z][c] += len(present) - rank
                supply[z][c] += (rank + 1) / len(group)
    scores = [[-math.inf] * clusters for _ in range(clusters)]
    for p in range(clusters):
        for q in range(clusters):
            if p == q:
                continue
            scores[p][q] = 0.0
            for c in range(classes):
                gammas = [
                    1 - min(max(float(angles[c, i, j]), 0), 90) / 90
                    for i in members[p]
                    for j in members[q]
                ]
                mean = sum(gammas) / len(gammas) if aligned else 1.0
                scores[p][q] += demand[p][c] * supply[q][c] * mean
    return demand, supply, scores


def test_hand_worked_ranks():
    # A: class 1 (5) is rarer than class 0 (10). C: a three-way tie, lower class first.
    ranks = rarity_ranks(COUNTS)
    assert ranks[0, :2].tolist() == [1, 0]
    assert ranks[1, 1:].tolist() == [0, 1]
    assert ranks[2].tolist() == [0, 1, 2]
    assert ranks[3, 2] == 0


def test_hand_worked_demand_and_supply():
    # d_i: A (m = 2) 2 - 1, 2 - 0, -; B -, 2, 1; C (m = 3) 3, 2, 1; D (m = 1) -, -, 1.
    # s_i: A 2, 1, -; B -, 1, 2; C 1, 2, 3; D -, -, 1. Cluster 0: d = (1, 4, 1), s = (2, 2, 2) / 2.
    result = complementarity(COUNTS, ANGLES, LABELS)
    assert result.demand.tolist() == [[1, 4, 1], [3, 2, 1], [0, 0, 1]]
    assert result.supply.tolist() == [[1, 1, 1], [1, 2, 3], [0, 0, 1]]


def test_hand_worked_scores_without_alignment():
    # H_01 = 1*1 + 4*2 + 1*3 = 12, H_02 = 1*1 = 1; H_10 = 3 + 2 + 1 = 6, H_12 = 1; H_20 = 1*1 = 1,
    # H_21 = 1*3 = 3.
    result = complementarity(COUNTS, ANGLES, LABELS, aligned=False)
    inf = math.inf
    assert result.scores.tolist() == [[-inf, 12, 1], [6, -inf, 1], [1, 3, -inf]]
    assert result.teachers == ((1, 2), (0, 2), (1, 0))
    assert result.arbitrary == ()


def test_hand_worked_scores_with_alignment():
    # Gamma of class 0: A-C 1 - 45/90 = 0.5, B-C 0: mean 0.25; class 1: A-C 1, B-C 0: 0.5;
    # class 2: A-C 0, B-C 1: 0.5. H_01 = 1*1*0.25 + 4*2*0.5 + 1*3*0.5 = 5.75,
    # H_10 = 3*1*0.25 + 2*1*0.5 + 1*1*0.5 = 2.25.
    # 0-2: class 0: A-D 0, B-D 1: 0.5; class 1: 0; class 2: A-D 0, B-D 2/3: 1/3.
    # H_02 = 1*0*0.5 + 4*0*0 + 1*1/3, H_20 = 0 + 0 + 1*1/3. 1-2: class 2: 1/3:
    # H_12 = 1*1/3, H_21 = 1*3/3 = 1.
    result = complementarity(COUNTS, ANGLES, LABELS)
    np.testing.assert_allclose(result.alignment[0, 1], [0.25, 0.5, 0.5])
    np.testing.assert_allclose(result.alignment[0, 2], [0.5, 0.0, 1 / 3], atol=1e-7)
    expected = [[-math.inf, 5.75, 1 / 3], [2.25, -math.inf, 1 / 3], [1 / 3, 1.0, -math.inf]]
    np.testing.assert_allclose(result.scores, expected, rtol=1e-6)
    assert result.teachers == ((1, 2), (0, 2), (1, 0))


def test_top_k():
    assert complementarity(COUNTS, ANGLES, LABELS, top_k=1).teachers == ((1,), (0,), (1,))
    assert complementarity(COUNTS, ANGLES, LABELS, top_k=9).teachers == ((1, 2), (0, 2), (1, 0))


def test_angles_beyond_ninety_are_clipped():
    angles = np.where(ANGLES >= 90, 144.0, ANGLES)
    expected = complementarity(COUNTS, ANGLES, LABELS).scores
    assert np.array_equal(complementarity(COUNTS, angles, LABELS).scores, expected)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("block_entries", [1, 50, 1 << 20])
def test_agrees_with_plain_python(monkeypatch, aligned, block_entries):
    monkeypatch.setattr(matrices, "BLOCK_ENTRIES", block_entries)
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 6, (14, 5))
    upper = np.triu(rng.uniform(0, 100, (5, 14, 14)), 1)
    angles = (upper + upper.swapaxes(1, 2)).astype(np.float32)
    labels = canonical_labels(rng.permutation(np.arange(14) % 4))
    demand, supply, scores = slow(counts, angles, labels, aligned)
    result = complementarity(counts, angles, labels, aligned=aligned)
    np.testing.assert_allclose(result.demand, demand, rtol=1e-12)
    np.testing.assert_allclose(result.supply, supply, rtol=1e-12)
    np.testing.assert_allclose(result.scores, scores, rtol=1e-10)
    for learner, teachers in enumerate(result.teachers):
        ranked = sorted(range(4), key=lambda q: -scores[learner][q])  # sorted is stable
        assert list(teachers) == ranked[:2]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.integers(1, 4))
def test_follows_the_clients(seed, clients, classes):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (clients, classes))
    upper = np.triu(rng.uniform(0, 90, (classes, clients, clients)), 1)
    angles = upper + upper.swapaxes(1, 2)
    labels = canonical_labels(rng.integers(0, 4, clients))
    order = rng.permutation(clients)
    result = complementarity(counts, angles, labels)
    moved = complementarity(counts[order], angles[:, order][:, :, order], labels[order])
    np.testing.assert_allclose(moved.scores, result.scores, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        result.alignment, result.alignment.swapaxes(0, 1), rtol=1e-9, atol=1e-9
    )
    assert result.alignment.min() >= 0.0
    assert result.alignment.max() <= 1.0 + 1e-12
    assert result.demand.min() >= 0.0
    assert result.supply.max() <= classes
    for learner, teachers in enumerate(result.teachers):
        assert len(teachers) == min(2, labels.max())
        assert len(set(teachers)) == len(teachers)
        assert learner not in teachers


def test_arbitrary_choices_are_told_and_go_to_the_lowest_clusters():
    # Disjoint classes: nobody supplies what another demands.
    result = complementarity(np.diag([3, 4, 5]), 90.0 * np.ones((3, 3, 3)), [0, 1, 2])
    assert result.arbitrary == (0, 1, 2)
    assert result.teachers == ((1, 2), (0, 2), (0, 1))


def test_single_cluster_has_no_source():
    for clients in (1, 3):
        result = complementarity(
            np.ones((clients, 1), dtype=int), np.zeros((1, clients, clients)), [0] * clients
        )
        assert result.teachers == ((),)
        assert result.arbitrary == ()
        assert result.scores.tolist() == [[-math.inf]]


def test_angles_of_some_clients_make_the_means_and_all_clients_the_rest():
    rows = np.array([1, 2, 3])  # without A
    result = complementarity(COUNTS, ANGLES[:, rows[:, None], rows], LABELS, rows=rows)
    whole = complementarity(COUNTS, ANGLES, LABELS)
    np.testing.assert_array_equal(result.demand, whole.demand)
    np.testing.assert_array_equal(result.supply, whole.supply)
    # B and C: 0, 90, 0 degrees, from the triangles above; C and D: 90, 90, 60.
    np.testing.assert_allclose(result.alignment[0, 1], [1.0 - 90 / 90, 0.0, 1.0])
    np.testing.assert_allclose(result.alignment[1, 2], whole.alignment[1, 2])


def test_some_of_each_cluster_are_drawn_and_small_clusters_whole():
    labels = np.repeat([0, 1, 2], [5, PAIRED, 3 * PAIRED])
    np.random.default_rng(1).shuffle(labels)
    rows = drawn_members(labels)
    assert np.bincount(labels[rows]).tolist() == [5, PAIRED, PAIRED]
    assert np.array_equal(rows, np.unique(rows))
    assert np.array_equal(rows, drawn_members(labels))


def test_sampled_means_are_near_those_of_all_pairs():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 2 * PAIRED)
    angles = rng.uniform(0.0, 90.0, (1, len(labels), len(labels)))
    angles += angles.swapaxes(1, 2)
    angles /= 2.0
    counts, rows = np.ones((len(labels), 1), dtype=int), drawn_members(labels)
    whole = complementarity(counts, angles, labels).alignment[0, 1, 0]
    some = complementarity(counts, angles[:, rows[:, None], rows], labels, rows=rows)
    assert len(rows) == len(labels) // 2
    assert some.alignment[0, 1, 0] != whole
    # The mean of 200 x 200 independent pairs of 160,000: five standard errors.
    error = (90.0 / np.sqrt(24.0)) / 90.0 / PAIRED
    assert abs(some.alignment[0, 1, 0] - whole) < 5.0 * error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": np.array([0, 1, 2]), "angles": ANGLES[:, :3, :3]}, "a client of each cluster"),
        ({"counts": COUNTS - 5}, "must not be negative"),
        ({"counts": COUNTS * 1.0}, "must be integers"),
        ({"angles": ANGLES[:2]}, "angles must have shape"),
        ({"labels": [0, 0, 1]}, "labels must be integers of shape"),
        ({"labels": [0, 0, 1, 3]}, "every number from 0"),
        ({"top_k": 0}, "top_k"),
    ],
)
def test_rejects(changes, message):
    arguments = {"counts": COUNTS, "angles": ANGLES, "labels": LABELS, **changes}
    with pytest.raises(ValueError, match=message):
        complementarity(**arguments)
