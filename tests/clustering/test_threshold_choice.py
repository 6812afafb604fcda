"""Choice of alpha*: Table 19, planted groups, and cases with nothing to find."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.clustering.selection import choose
from feddag_flwr.clustering.threshold import sweep
from feddag_flwr.similarity.normalisation import normalise

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

GRID = [round(0.05 * k, 2) for k in range(1, 21)]

# Table 19 of the paper, 11 true clusters: alpha, then clusters and loss (capped at 1) on CIFAR-10
# and on SVHN.
TABLE_19 = [
    (1.00, 1, 0.770, 1, 0.675),
    (0.95, 1, 0.770, 1, 0.675),
    (0.90, 2, 1.000, 1, 0.675),
    (0.85, 3, 1.000, 1, 0.675),
    (0.80, 3, 1.000, 2, 0.866),
    (0.75, 3, 1.000, 2, 0.866),
    (0.70, 4, 1.000, 3, 1.000),
    (0.65, 4, 1.000, 4, 1.000),
    (0.60, 5, 1.000, 4, 1.000),
    (0.55, 6, 1.000, 5, 1.000),
    (0.50, 11, 0.149, 5, 1.000),
    (0.45, 11, 0.149, 7, 0.896),
    (0.40, 11, 0.149, 9, 0.688),
    (0.35, 11, 0.149, 11, 0.343),
    (0.30, 11, 0.149, 11, 0.343),
    (0.25, 11, 0.149, 11, 0.343),
    (0.20, 12, 0.251, 11, 0.343),
    (0.15, 13, 0.161, 14, 0.315),
    (0.10, 14, 0.117, 18, 0.205),
    (0.05, 14, 0.117, 24, 0.141),
]


@dataclass
class Row:
    """What a table in print tells of a clustering."""

    threshold: float
    num_clusters: int
    loss: float
    says_nothing: bool = False
    loners: int = 0


def rows(*triples):
    return [Row(*triple) for triple in triples]


def planted(seed, sizes, noise, inside=0.2, across=0.8, near=None):
    """Normalised noisy dissimilarity of groups in random client order; 0 and 1 maybe nearer."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(range(len(sizes)), sizes))
    same = labels[:, None] == labels
    matrix = np.where(same, inside, across)
    if near is not None:
        matrix[(labels[:, None] < 2) & (labels < 2) & ~same] = near
    matrix = np.triu(matrix + noise * rng.standard_normal(matrix.shape), 1)
    return normalise(np.abs(matrix + matrix.T)).matrix, labels


def both_sweeps(proximity, linkage="average"):
    """The exact candidates and those of the default grid."""
    return sweep(proximity, linkage), sweep(proximity, linkage, GRID)


@pytest.mark.parametrize(("column", "lowest", "highest"), [(1, 0.25, 0.50), (3, 0.20, 0.35)])
def test_table_19(column, lowest, highest):
    table = rows(*((line[0], line[column], line[column + 1]) for line in TABLE_19))
    chosen = choose(table)
    assert chosen.num_clusters == 11
    assert lowest < chosen.threshold < highest
    assert any(chosen is row for row in table)
    # By a margin: a loss of 3 more, 3 / 11 less of the score, does not change it.
    dearer = [Row(r.threshold, r.num_clusters, r.loss + 3 * (r.num_clusters == 11)) for r in table]
    assert choose(dearer).num_clusters == 11


def test_hand_worked_scores():
    # 9 clusters from 0.2 to 0.3: 0.1 (1 - 0.9 / 9) = 0.09. 4 from 0.3 to 0.8: 0.5 (1 - 0.4 / 4)
    # = 0.45. 1 from 0.8 to 1: 0.2 (1 - 0.7) = 0.06. The thresholds of the 4 are 0.3, 0.4, 0.5.
    table = rows((0.2, 9, 0.9), (0.3, 4, 0.4), (0.4, 4, 0.4), (0.5, 4, 0.4), (0.8, 1, 0.7))
    assert choose(table) is table[2]
    assert choose(table[::-1]) is table[2]


def test_lower_loss_wins_over_equal_persistence_and_fewer_clusters_win_a_tie():
    # Both last 0.4: 3 clusters score 0.4 (1 - 0.3 / 3) = 0.36, 2 score 0.4 (1 - L / 2).
    def table(loss):
        return rows((0.1, 3, 0.3), (0.5, 2, loss), (0.9, 1, 1.0))

    assert choose(table(0.8)).num_clusters == 3  # 0.24
    assert choose(table(0.1)).num_clusters == 2  # 0.38
    tie = rows((0.0, 4, 0.0), (0.5, 1, 0.0))  # 0.5 both
    assert choose(tie).num_clusters == 1


def test_the_loss_decides_between_persistent_clusterings():
    def table(finer_loss, finer_start):
        return rows((0.1, 9, 0.5), (finer_start, 5, finer_loss), (0.4, 4, 0.5), (0.75, 1, 0.7))

    # 4 clusters last 0.35; 5 clusters 0.15, more than a third of that.
    assert choose(table(0.4, 0.25)).num_clusters == 5
    assert choose(table(0.6, 0.25)).num_clusters == 4
    # 0.1 is less than a third of 0.35.
    assert choose(table(0.4, 0.3)).num_clusters == 4


def test_a_finer_clustering_must_not_earn_its_loss_by_leaving_clients_alone():
    # Clients 0 to 3 and the pair 4, 5: without the pair the loss falls, yet the pair is a group.
    proximity = np.full((6, 6), 0.9)
    proximity[:4, :4] = 0.05
    proximity[4:, 4:] = 0.4
    np.fill_diagonal(proximity, 0.0)
    candidates = sweep(proximity)
    losses = {c.num_clusters: c.loss for c in candidates}
    assert losses[3] < losses[2]
    assert choose(candidates).num_clusters == 2


def test_loss_above_one_or_infinite_scores_zero_only_beyond_one_a_cluster():
    # 4 clusters last 0.5 and score 0.25; the others 0, whatever they last.
    assert choose(rows((0.0, 4, 2.0), (0.5, 2, np.inf), (0.7, 1, 1.5))).num_clusters == 4
    assert choose(rows((0.0, 4, 2.0), (0.1, 2, np.inf), (0.7, 1, 1.5))).num_clusters == 4


SCENARIOS = {
    "2 groups": ([20, 20], {}),
    "11 groups": ([9] * 11, {}),
    "11 groups of 4": ([4] * 11, {}),
    "2 of 40 apart": ([38, 2], {}),
    "unequal": ([30, 12, 6, 2], {}),
    "5 groups, two nearer": ([20] * 5, {"near": 0.65}),
    "20 groups of 5": ([5] * 20, {}),
}


@pytest.mark.parametrize("noise", [0.02, 0.1])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SCENARIOS)
def test_planted_groups_are_found(name, seed, noise):
    sizes, options = SCENARIOS[name]
    proximity, truth = planted(seed, sizes, noise, **options)
    for candidates in both_sweeps(proximity):
        chosen = choose(candidates)
        assert adjusted_rand_score(truth, chosen.labels) == 1.0
        assert chosen.num_clusters == len(sizes)


@pytest.mark.parametrize("linkage", ["complete", "single"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_planted_groups_are_found_by_the_other_linkages(name, linkage):
    sizes, options = SCENARIOS[name]
    proximity, truth = planted(0, sizes, 0.02, **options)
    for candidates in both_sweeps(proximity, linkage):
        assert adjusted_rand_score(truth, choose(candidates).labels) == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clients", [40, 100])
def test_noise_without_groups_is_one_cluster(seed, clients):
    proximity, _ = planted(seed, [clients], 0.1)
    for candidates in both_sweeps(proximity):
        assert choose(candidates).num_clusters == 1


@pytest.mark.parametrize("clients", [1, 2, 3, 40])
def test_clients_alike_are_one_cluster(clients):
    for candidates in both_sweeps(np.zeros((clients, clients))):
        assert choose(candidates).labels.tolist() == [0] * clients


def test_two_clients_become_one_cluster():
    # Whatever their distance, min-max normalisation leaves 0: there is no pair to compare with.
    proximity = normalise([[0.0, 75.0], [75.0, 0.0]]).matrix
    for candidates in both_sweeps(proximity):
        assert choose(candidates).labels.tolist() == [0, 0]


def test_every_client_alone_is_taken_only_for_want_of_another():
    proximity = 0.9 * (1 - np.eye(3))
    assert choose(sweep(proximity)).num_clusters == 1
    assert choose(sweep(proximity, thresholds=[0.2, 0.4])).num_clusters == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_choice_is_among_the_candidates_and_blind_to_client_order(seed, clients):
    proximity, _ = planted(seed, [clients], 0.1)
    order = np.random.default_rng(seed).permutation(clients)
    candidates = sweep(proximity)
    chosen = choose(candidates)
    assert any(chosen is candidate for candidate in candidates)
    moved = choose(sweep(proximity[np.ix_(order, order)]))
    assert adjusted_rand_score(chosen.labels[order], moved.labels) == 1.0


def test_choose_rejects():
    with pytest.raises(ValueError, match="at least one clustering"):
        choose([])
    with pytest.raises(ValueError, match="must not grow with the threshold"):
        choose(rows((0.1, 2, 0.0), (0.2, 3, 0.0)))
