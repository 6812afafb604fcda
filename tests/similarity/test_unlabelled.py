"""Clients without labels go where their samples are most likely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from feddag_flwr.similarity.unlabelled import (
    DRAWS,
    MEMBERS,
    Directions,
    _Cluster,
    nearest_clusters,
)

FEATURES, RANK = 8, 3


def directions_of(samples, rank=RANK):
    """Leading directions of samples (n, d), by NumPy's SVD."""
    _, values, rows = np.linalg.svd(samples, full_matrices=False)
    shares = np.square(values[:rank]) / np.square(samples).sum()
    return rows[:rank].astype(np.float32), shares


def clients(kinds, rng, samples=40):
    """Clients of kinds that differ in which features vary."""
    found = []
    for kind in kinds:
        spread = np.full(FEATURES, 0.1)
        spread[2 * kind : 2 * kind + 2] = 1.0
        found.append(directions_of(rng.standard_normal((samples, FEATURES)) * spread))
    return Directions.of([f[0] for f in found], [f[1] for f in found], [samples] * len(kinds))


def test_the_density_is_that_of_the_normal_law_with_the_members_second_moment():
    rng = np.random.default_rng(1)
    one, other, newcomer = (rng.standard_normal((30, FEATURES)) for _ in range(3))
    # All directions but one are sent, so that the second moments are whole.
    rank = FEATURES - 1
    parts = [directions_of(samples, rank) for samples in (one, other)]
    members = Directions.of([p[0] for p in parts], [p[1] for p in parts], [30, 90])
    vectors, shares = directions_of(newcomer, FEATURES)
    sent = Directions.of([vectors], [shares], [30])
    found = _Cluster(members, sent).log_densities(np.arange(2))
    # By hand: the weighted mean of the members' second moments, its leading directions kept.
    moment = sum(
        weight * (rows.T * of_rows) @ rows
        for weight, (rows, of_rows) in zip((0.25, 0.75), parts, strict=True)
    )
    values, axes = np.linalg.eigh(moment.astype(np.float64))
    values[0] = 1.0 - values[1:].sum()
    law = (axes * values) @ axes.T
    scaled = newcomer / np.sqrt(np.square(newcomer).sum(axis=1).mean())
    mean = multivariate_normal(np.zeros(FEATURES), law).logpdf(scaled).mean()
    constant = FEATURES / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(found, mean + constant, rtol=1e-4)


def test_newcomers_go_to_their_kind_whatever_the_numbers_of_the_clusters():
    rng = np.random.default_rng(2)
    kinds = np.array([0, 1, 2] * 5)
    members, newcomers = clients(kinds, rng), clients([2, 0, 1, 1], rng)
    placed, sure = nearest_clusters(members, np.array([4, 9, 7])[kinds], newcomers, rng)
    assert placed.tolist() == [7, 4, 9, 9]
    assert sure.tolist() == [1.0] * 4


def test_among_clusters_of_one_kind_nothing_is_sure():
    rng = np.random.default_rng(3)
    members, newcomers = clients([0] * 20, rng), clients([0] * 40, rng)
    placed, sure = nearest_clusters(members, np.arange(20) % 2, newcomers, rng)
    assert 5 < placed.sum() < 35
    assert np.median(sure) < 0.9


def test_one_cluster_is_sure():
    rng = np.random.default_rng(4)
    placed, sure = nearest_clusters(clients([0, 1], rng), [3, 3], clients([2], rng), rng)
    assert (placed.tolist(), sure.tolist()) == ([3], [1.0])


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_each_newcomer_is_placed_as_if_alone_and_turning_all_samples_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, 8)
    members, newcomers = clients(kinds, rng), clients(rng.integers(0, 3, 3), rng)

    def placed(of_members, of_newcomers):
        return nearest_clusters(of_members, kinds, of_newcomers, np.random.default_rng(0))

    together = placed(members, newcomers)
    for row in range(3):
        alone = placed(members, newcomers.only([row]))
        assert (alone[0][0], alone[1][0]) == (together[0][row], together[1][row])
    turn, _ = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))
    turned = [
        Directions((each.vectors @ turn).astype(np.float32), each.shares, each.samples)
        for each in (members, newcomers)
    ]
    clusters, sure = placed(*turned)
    assert clusters.tolist() == together[0].tolist()
    np.testing.assert_allclose(sure, together[1], atol=2 / DRAWS)


def test_a_large_cluster_is_spoken_for_by_some_and_blank_clients_do_no_harm():
    rng = np.random.default_rng(5)
    kinds = np.array([0] * (MEMBERS + 5) + [1] * 3)
    members = clients(kinds, rng)
    blank = Directions.of([np.zeros((0, FEATURES), np.float32)], [np.zeros(0)], [5])
    placed, sure = nearest_clusters(
        members.joined_by(blank), [*kinds, 1], clients([1, 0], rng), rng
    )
    assert placed.tolist() == [1, 0]
    assert (sure > 0.9).all()


def test_as_many_labels_as_members_are_needed():
    rng = np.random.default_rng(6)
    with pytest.raises(ValueError, match="2 members with 1 labels"):
        nearest_clusters(clients([0, 1], rng), [0], clients([0], rng), rng)
