"""Placing newcomers by one pass of the linkage (Algorithm 4)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from feddag_flwr.clustering.newcomers import place
from feddag_flwr.clustering.threshold import sweep

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=50, deadline=None)

ROW, LABELS = [0.1, 0.6, 0.2, 0.3, 0.9], [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("linkage", "distances", "cluster"),
    [
        ("average", [0.35, 0.25, 0.9], 1),
        ("complete", [0.6, 0.3, 0.9], 1),
        ("single", [0.1, 0.2, 0.9], 0),
    ],
)
def test_distances_by_hand(linkage, distances, cluster):
    found = place(ROW, LABELS, 0.5, linkage)
    np.testing.assert_allclose(found.distances, distances)
    assert (found.cluster, found.alone) == (cluster, False)


def test_beyond_the_threshold_the_nearest_by_mean_takes_it():
    # By single linkage cluster 0 is nearest, by mean cluster 1.
    found = place(ROW, LABELS, 0.05, "single")
    assert (found.cluster, found.alone) == (1, True)
    assert found.distances.tolist() == [0.1, 0.2, 0.9]
    assert place(ROW, LABELS, 0.29, "complete").alone


def test_a_distance_of_alpha_itself_joins_and_the_lower_cluster_wins_a_tie():
    assert not place([0.5, 0.75], [0, 1], 0.5).alone
    assert place([0.5, 0.5], [1, 0], 0.5).cluster == 0
    assert place([0.5, 0.5], [1, 0], 0.25).cluster == 0


def test_one_cluster_takes_everybody():
    assert place([0.9, 0.8], [0, 0], 0.1).cluster == 0
    assert place([0.0], [0], 0.0).alone is False


@given(seeds, st.sampled_from(["average", "complete", "single"]))
@quick
def test_the_distances_are_those_of_scipys_linkage(seed, linkage):
    """Clusters of clients at distance 0, merged first: the last merge is the newcomer's."""
    rng = np.random.default_rng(seed)
    row = rng.uniform(0.1, 1.0, 4)
    matrix = np.zeros((5, 5))
    matrix[0, 1:] = matrix[1:, 0] = row
    height = scipy_linkage(squareform(matrix), linkage)[-1, 2]
    assert place(row, [0, 0, 0, 0], 1.0, linkage).distances[0] == pytest.approx(height)


@given(seeds, st.sampled_from(["average", "complete", "single"]))
@quick
def test_a_copy_of_a_member_lands_in_its_cluster(seed, linkage):
    """Tight groups, far apart, in any client order."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(3), 4))
    level = np.where(groups[:, None] == groups, 0.1, 0.7)
    matrix = np.triu(level + 0.1 * rng.random((12, 12)), 1)
    matrix += matrix.T
    labels = sweep(matrix, linkage, [0.4])[0].labels
    for client in range(12):
        found = place(matrix[client], labels, 0.4, linkage)
        assert found.cluster == labels[client]
        assert not found.alone


@given(seeds, st.floats(0, 1), st.sampled_from(["average", "complete", "single"]))
@quick
def test_alone_means_that_no_cluster_is_near_enough(seed, threshold, linkage):
    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(3), rng.integers(0, 3, 5))
    row = rng.random(8)
    found = place(row, labels, threshold, linkage)
    assert found.alone == (found.distances > threshold).all()
    if not found.alone:
        assert found.distances[found.cluster] == found.distances.min() <= threshold
    order = rng.permutation(8)
    again = place(row[order], labels[order], threshold, linkage)
    assert again.cluster == found.cluster
    np.testing.assert_allclose(again.distances, found.distances)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, np.nan], [0, 1], 0.5), r"values in \[0, 1\]"),
        (([0.5, 1.5], [0, 1], 0.5), r"values in \[0, 1\]"),
        (([], [], 0.5), "N >= 1 values"),
        (([0.5, 0.5], [0, 2], 0.5), "labels must use every number"),
        (([0.5, 0.5], [0], 0.5), "labels must be integers of shape"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        place(*arguments)
