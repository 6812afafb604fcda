"""Eq. 9 and 10 (loss) and the sweep of thresholds over the dendrogram."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.clustering.threshold import sweep

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

LINKAGES = ["average", "complete", "single"]
GRID = [round(0.05 * k, 2) for k in range(1, 21)]

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def symmetric(rng, clients):
    """Random dissimilarity in [0, 1]."""
    upper = np.triu(rng.random((clients, clients)), 1)
    return upper + upper.T


def slow_loss(proximity, labels, gamma, tau, lam):
    """Eq. 9 and 10 in plain Python."""
    groups = [[i for i, z in enumerate(labels) if z == label] for label in sorted(set(labels))]
    within = sum(
        sum(proximity[i][j] for i in group for j in group) / len(group) ** 2 for group in groups
    )
    sizes = [len(group) for group in groups]
    mean = sum(sizes) / len(sizes)
    deviation = math.sqrt(sum((size - mean) ** 2 for size in sizes) / len(sizes))
    size = sum(math.exp(max(0.0, mean - gamma * deviation - n) / tau) for n in sizes) / len(sizes)
    return within, size, within + lam * size


# A worked example: clients 0, 1, 2 and, apart, 3.
WORKED = np.array([[0, 0.1, 0.2, 0.9], [0.1, 0, 0.3, 0.7], [0.2, 0.3, 0, 0.8], [0.9, 0.7, 0.8, 0]])


def test_hand_worked_loss():
    # At 0.3 the clusters are {0, 1, 2} and {3}: L1 = 2 (0.1 + 0.2 + 0.3) / 9 + 0 / 1 = 0.13333.
    # Sizes 3 and 1: mean 2, standard deviation 1.
    # gamma = 1: shortfalls max(0, 2 - 1 - 3) = 0 and max(0, 2 - 1 - 1) = 0: L2 = (1 + 1) / 2 = 1,
    # L = 0.13333 + 0.01.
    (candidate,) = sweep(WORKED, thresholds=[0.3])
    assert (candidate.within, candidate.size) == (pytest.approx(1.2 / 9), 1.0)
    assert candidate.loss == pytest.approx(1.2 / 9 + 0.01)
    # gamma = 0, tau = 2: shortfalls 0 and 1: L2 = (1 + exp(1 / 2)) / 2 = 1.32436; lambda = 1.
    (candidate,) = sweep(WORKED, thresholds=[0.3], gamma=0.0, tau=2.0, lam=1.0)
    assert candidate.size == pytest.approx(1.32436, abs=1e-5)
    assert candidate.loss == pytest.approx(1.2 / 9 + 1.32436, abs=1e-5)


def test_hand_worked_sweep():
    # Average linkage: 0 and 1 merge at 0.1; 2 joins at (0.2 + 0.3) / 2 = 0.25; 3 at
    # (0.9 + 0.7 + 0.8) / 3 = 0.8. L1: 0; 2 * 0.1 / 4 = 0.05; 1.2 / 9; 0.375.
    candidates = sweep(WORKED)
    assert [c.threshold for c in candidates] == pytest.approx([0.0, 0.1, 0.25, 0.8])
    assert [c.labels.tolist() for c in candidates] == [
        [0, 1, 2, 3],
        [0, 0, 1, 2],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert [c.num_clusters for c in candidates] == [4, 3, 2, 1]
    assert [c.within for c in candidates] == pytest.approx([0.0, 0.05, 1.2 / 9, 0.375])
    assert [c.says_nothing for c in candidates] == [True, False, False, False]


@pytest.mark.parametrize(
    ("linkage", "heights"), [("complete", [0.0, 0.1, 0.3, 0.9]), ("single", [0.0, 0.1, 0.2, 0.7])]
)
def test_hand_worked_heights_of_the_other_linkages(linkage, heights):
    assert [c.threshold for c in sweep(WORKED, linkage)] == pytest.approx(heights)


def test_grid_gives_one_candidate_a_threshold():
    candidates = sweep(WORKED, thresholds=[0.9, 0.05, 0.2, 0.1])
    assert [c.threshold for c in candidates] == [0.05, 0.1, 0.2, 0.9]
    assert [c.num_clusters for c in candidates] == [4, 3, 3, 1]  # a merge at alpha itself is made


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("thresholds", [None, GRID])
def test_sweep_agrees_with_fcluster_and_the_slow_loss(linkage, thresholds):
    proximity = symmetric(np.random.default_rng(1), 23)
    tree = scipy_linkage(squareform(proximity), linkage)
    candidates = sweep(proximity, linkage, thresholds, gamma=0.5, tau=2.0, lam=0.3)
    assert len(candidates) == (23 if thresholds is None else len(GRID))
    for candidate in candidates:
        expected = fcluster(tree, candidate.threshold, "distance")
        assert adjusted_rand_score(expected, candidate.labels) == 1.0
        assert candidate.labels.tolist() == canonical_labels(candidate.labels).tolist()
        assert candidate.num_clusters == len(set(expected))
        slow = slow_loss(proximity, candidate.labels, 0.5, 2.0, 0.3)
        assert (candidate.within, candidate.size, candidate.loss) == pytest.approx(slow, rel=1e-11)


@quick
@given(seeds, st.integers(1, 15), st.sampled_from(LINKAGES))
def test_partitions_follow_the_clients(seed, clients, linkage):
    rng = np.random.default_rng(seed)
    proximity, order = symmetric(rng, clients), rng.permutation(clients)
    candidates = sweep(proximity, linkage)
    moved = sweep(proximity[np.ix_(order, order)], linkage)
    assert len(moved) == len(candidates)
    for candidate, other in zip(candidates, moved, strict=True):
        assert other.labels.tolist() == canonical_labels(candidate.labels[order]).tolist()
        assert other.threshold == pytest.approx(candidate.threshold, abs=1e-12)
        assert other.loss == pytest.approx(candidate.loss, abs=1e-12)
    counts = [candidate.num_clusters for candidate in candidates]
    assert counts == sorted(counts, reverse=True)


def test_single_client():
    for thresholds in (None, [0.5]):
        (candidate,) = sweep([[0.0]], thresholds=thresholds)
        assert candidate.labels.tolist() == [0]
        assert (candidate.within, candidate.size) == (0.0, 1.0)
        assert not candidate.says_nothing


def test_clients_alike_merge_at_zero():
    (candidate,) = sweep(np.zeros((5, 5)))
    assert candidate.labels.tolist() == [0] * 5
    assert candidate.threshold == 0.0


@pytest.mark.parametrize("linkage", LINKAGES)
def test_chain_of_a_thousand_clients(linkage):
    # Clients on a line: single linkage makes the deepest possible dendrogram.
    places = np.cumsum(np.linspace(1.0, 2.0, 1000))
    proximity = np.abs(places[:, None] - places)
    candidates = sweep(proximity / proximity.max(), linkage)
    assert candidates[-1].num_clusters == 1
    assert candidates[-1].within == pytest.approx((proximity / proximity.max()).mean())


def test_losses_beyond_the_largest_number_are_infinite_without_a_warning():
    # Two heaps of 2000 and a loner: shortfall 1333, over tau = 0.001 more than exp can take.
    heap = np.repeat([0, 1, 2], [2000, 2000, 1])
    apart = (heap[:, None] != heap).astype(float)
    (candidate,) = sweep(apart, thresholds=[0.5], gamma=0.0, tau=1e-3)
    assert (candidate.num_clusters, candidate.loss) == (3, math.inf)
    (candidate,) = sweep(WORKED, thresholds=[0.3], gamma=0.0, tau=1e-6, lam=0.0)
    assert candidate.loss < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": []}, "thresholds"),
        ({"thresholds": [-0.1]}, "thresholds"),
        ({"thresholds": [0.5, math.nan]}, "thresholds"),
    ],
)
def test_sweep_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        sweep(WORKED, **arguments)


def test_canonical_labels():
    assert canonical_labels([5, 5, -1, 3, -1]).tolist() == [0, 0, 1, 2, 1]
    for bad in ([], [[0]], [0.5]):
        with pytest.raises(ValueError, match="labels must be integers"):
            canonical_labels(bad)
