"""Persistence of dendrograms, and what chance gives of it."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from feddag_flwr.data.partition import lda_counts
from feddag_flwr.similarity import persistence as module
from feddag_flwr.similarity.evidence import PERSISTENCE, Evidence
from feddag_flwr.similarity.gradient import gradient_dissimilarity
from feddag_flwr.similarity.label_residual_gradient import LabelResidualGradient
from feddag_flwr.similarity.label_set_distance import label_set_distance
from feddag_flwr.similarity.persistence import (
    persistence,
    persistence_beyond_chance,
    shuffled_pairs,
)

pytestmark = pytest.mark.filterwarnings("error")


def of_groups(sizes, near=1.0, far=8.0):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    matrix = np.where(groups[:, None] == groups, near, far)
    np.fill_diagonal(matrix, 0)
    return matrix


def sets_of(sets, sizes, classes=10):
    """Counts of clients that hold the classes of their group."""
    held = np.array([[label in each for label in range(classes)] for each in sets])
    return np.repeat(held.astype(int) * 7, sizes, axis=0)


def weigh(counts, gradient=None):
    """Weights of the views of clients that look alike, and whose updates differ at random."""
    clients, classes = counts.shape
    if gradient is None:
        gradient = 80.0 * (1 - np.eye(clients))
    angles = np.zeros((classes, clients, clients), dtype=np.float32)
    evidence, _, _ = Evidence.of(gradient, angles, counts, counts)
    return {name: view.weight for name, view in evidence.views.items()}


# -- persistence -----------------------------------------------------------------------------------


def test_persistence_of_two_pairs_and_of_a_steady_line():
    assert persistence(of_groups((2, 2), 2.0, 8.0)) == pytest.approx(0.75)
    # By average linkage: 1 and 2, 8 and 9.5, 4 with the first two at 2.5, both threes at 6.5.
    line = np.array([1.0, 2, 4, 8, 9.5])
    top = np.mean([8 - 1, 8 - 2, 8 - 4, 9.5 - 1, 9.5 - 2, 9.5 - 4])
    assert persistence(np.abs(line[:, None] - line)) == pytest.approx((top - 2.5) / top)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((2, 2, 2), 7 / 8),
        ((3, 3), 7 / 8),
        ((3, 2, 1), 7 / 8),
        ((2, 2, 1), 0),  # fewer than two clients a cluster
        ((2, 1, 1, 1, 1), 0),
        ((4, 1, 1), 0),  # a heap and some that are alone
        ((20, 1), 0),
        ((20, 1, 1, 1), 0),
    ],
)
def test_cuts_that_say_nothing_of_groups_do_not_count(sizes, expected):
    assert persistence(of_groups(sizes)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(20))
def test_persistence_is_the_longest_stretch_of_the_cuts_that_count(seed):
    rng = np.random.default_rng(seed)
    clients = int(rng.integers(4, 16))
    distances = pdist(rng.standard_normal((clients, 2)) + 4 * rng.integers(0, 3, (clients, 1)))
    tree = linkage(distances, method="average")
    stretches = [0.0]
    for low, high in zip(tree[:-1, 2], tree[1:, 2], strict=True):
        sizes = np.bincount(fcluster(tree, (low + high) / 2, "distance"))[1:]
        if sizes.mean() >= 2 and np.count_nonzero(sizes >= 2) >= 2:
            stretches.append(high - low)
    expected = max(stretches) / tree[-1, 2]
    assert persistence(squareform(distances)) == pytest.approx(expected)


def test_persistence_of_none():
    assert persistence(np.zeros((6, 6))) == 0
    assert persistence(np.ones((6, 6)) - np.eye(6)) == 0
    for clients in (1, 2, 3):
        assert persistence(np.ones((clients, clients)) - np.eye(clients)) == 0


# -- beyond chance ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "sizes"),
    [
        ((range(5), range(5, 10)), (2, 2)),  # the deployment demonstration
        ((range(7), range(3, 10)), (2, 2)),
        ((range(5), range(5, 10)), (3, 2)),
        ((range(7), range(7, 10)), (90, 10)),
        ((range(10), range(7)), (30, 30)),
    ],
)
def test_groups_with_classes_of_their_own_keep_the_weight_of_presence(sets, sizes):
    assert weigh(sets_of(sets, sizes))["label-set"] == 1.0


def test_groups_of_the_same_classes_but_one_are_no_more_than_chance():
    """Half of the clients lack one class: so they would by chance."""
    counts = sets_of((range(10), range(9)), (30, 30))
    assert persistence(label_set_distance(counts)) == 1.0
    assert weigh(counts)["label-set"] == 0.0


@pytest.mark.parametrize(("alpha", "clients"), [(5.0, 30), (10.0, 100)])
def test_classes_that_few_clients_lack_by_chance_have_no_weight(alpha, clients):
    found = []
    for seed in range(20):
        sizes = [60 * clients] * 10
        counts = lda_counts(sizes, num_clients=clients, alpha=alpha, floor=10, seed=seed)
        found.append((persistence(label_set_distance(counts)) > PERSISTENCE[0], weigh(counts)))
    assert np.mean([long for long, _ in found]) > 0.3
    assert np.mean([weights["label-set"] > 0 for _, weights in found]) <= 0.1


def test_small_clients_lack_classes_but_are_no_group():
    """How many classes a client holds is a matter of its size here, and of nothing else."""
    given = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sizes = np.exp(rng.uniform(np.log(3), np.log(300), 10)).astype(int)
        counts = np.stack([rng.multinomial(size, [0.1] * 10) for size in sizes])
        given.append(weigh(counts)["label-set"] > 0)
    assert np.mean(given) <= 0.05


@pytest.mark.parametrize("clients", [5, 6, 7, 8])
def test_few_clients_seldom_look_like_groups_by_chance(clients):
    given = []
    for seed in range(60):
        rng = np.random.default_rng([clients, seed])
        held = rng.random((clients, 6)) < 0.6
        held[:, 0] |= ~held.any(axis=1)
        updates = rng.standard_normal((clients, 60)) + rng.standard_normal(60)
        counts = rng.integers(5, 80, held.shape) * held
        weights = weigh(counts, gradient_dissimilarity(updates))
        given.append([weights[name] > 0 for name in ("label-set", "gradient")])
    assert np.mean(given, axis=0).max() <= 0.1  # 0.05 and its standard error of 0.03


def test_what_has_as_much_as_one_in_twenty_shuffled_is_chance():
    """Ties count as much, whatever rounding does to them."""
    matrix, other = of_groups((3, 3)), of_groups((3, 3), far=8.0 * (1 - 1e-14))
    line = np.arange(6.0)
    chance = np.abs(line[:, None] - line)
    assert persistence(chance) < persistence(other) < persistence(matrix)
    for reached, expected in ((4, 7 / 8), (5, 0.0)):
        drawn = iter([other] * reached + [chance] * (module.SHUFFLES - reached))
        found = persistence_beyond_chance(matrix, lambda *_, drawn=drawn: next(drawn), 0.4)
        assert found == pytest.approx(expected)


def test_what_makes_no_difference_is_not_held_against_chance():
    def never(*_):
        raise AssertionError("a shuffle costs time")

    assert persistence_beyond_chance(of_groups((3, 3)), never, 0.9) == pytest.approx(7 / 8)


def test_shuffled_pairs_are_the_same_dissimilarities_among_others():
    rng = np.random.default_rng(0)
    matrix = squareform(rng.random(15))
    found = shuffled_pairs(matrix, rng)
    np.testing.assert_array_equal(found, found.T)
    assert not np.diagonal(found).any()
    pairs = np.triu_indices(6, 1)
    np.testing.assert_array_equal(np.sort(found[pairs]), np.sort(matrix[pairs]))
    assert not np.array_equal(found, matrix)


def test_of_many_clients_as_many_of_each_kind_are_shuffled(monkeypatch):
    """By the order of names, every third client would be of one kind, and no group be seen."""
    monkeypatch.setattr(module, "MAX_SHUFFLED", 20)
    kinds = np.arange(60) % 3
    kinds[:6] = 3
    matrix = np.where(kinds[:, None] == kinds, 1.0, 8.0)
    np.fill_diagonal(matrix, 0)
    seen = []

    def shuffle(clients, generator):
        seen.append(clients)
        return shuffled_pairs(matrix[np.ix_(clients, clients)], generator)

    assert persistence_beyond_chance(matrix, shuffle, 0.4) == pytest.approx(7 / 8)
    assert len(np.unique(seen[0])) == 20
    assert np.bincount(kinds[seen[0]]).tolist() == [6, 6, 6, 2]
    assert all(np.array_equal(each, seen[0]) for each in seen)


def test_a_group_of_the_gradient_counts_and_what_is_dealt_anew_does_not():
    rng = np.random.default_rng(3)
    counts = rng.integers(5, 80, (12, 4))
    kinds = np.arange(12) % 2
    gradient = np.where(kinds[:, None] == kinds, 20.0, 80.0) + np.abs(squareform(rng.random(66)))
    np.fill_diagonal(gradient, 0)
    assert weigh(counts, gradient)["gradient"] > 0.9
    assert weigh(counts, shuffled_pairs(gradient, rng))["gradient"] == 0.0
    _, remainders = LabelResidualGradient.of(gradient, counts)
    assert persistence(remainders) > 0.5
    lone = np.where(np.arange(12) == 0, 80.0, 20.0)
    apart = np.maximum(lone[:, None], lone) + squareform(rng.random(66))
    np.fill_diagonal(apart, 0)
    assert weigh(counts, apart)["gradient"] == 0.0  # a single client is no group


def test_the_same_clients_give_the_same_evidence():
    rng = np.random.default_rng(1)
    counts = rng.integers(5, 80, (8, 6)) * (rng.random((8, 6)) < 0.6)
    gradient = gradient_dissimilarity(rng.standard_normal((8, 40)))
    assert weigh(counts, gradient) == weigh(counts, gradient)
