"""PACFL: principal angles between clients' data, a threshold in degrees, planted groups."""

import logging

import numpy as np
import pytest
from algorithm_bench import Bench
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_grid import array_of, quick_settings, replace_array, run_quickly
from scipy.linalg import subspace_angles

from feddag_flwr.algorithms.pacfl.server import PACFL, smallest_angles, smallest_angles_to
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.engine.registration import FederationError

FULL = {"algorithm": "pacfl", "num_clusters": 3, "participation": 1.0, "num_rounds": 0}
# Average linkage merges the first two at 10 degrees and the third at (60 + 70) / 2 = 65.
ANGLES = np.array([[0.0, 10.0, 60.0], [10.0, 0.0, 70.0], [60.0, 70.0, 0.0]])


def random_bases(rng, clients, features=7):
    return [
        np.linalg.qr(rng.standard_normal((features, rng.integers(1, 4))))[0].T.astype(np.float32)
        for _ in range(clients)
    ]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_angles_are_the_smallest_principal_ones(seed):
    bases = random_bases(np.random.default_rng(seed), 4)
    found = smallest_angles(bases)
    for i in range(4):
        for j in range(i + 1, 4):
            one, two = (bases[k].T.astype(float) for k in (i, j))
            assert found[i, j] == pytest.approx(
                np.degrees(subspace_angles(one, two).min()), abs=1e-3
            )
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diagonal(found), 0)
    np.testing.assert_allclose(smallest_angles_to(bases[:2], bases[2:]), found[:2, 2:], atol=1e-4)


def test_angles_by_hand():
    half = np.sqrt(0.5)
    bases = [
        np.array([[1, 0, 0]], np.float32),
        np.array([[half, half, 0], [0, 0, 1]], np.float32),
        np.array([[0, 1, 0]], np.float32),
    ]
    expected = [[0, 45, 90], [45, 0, 45], [90, 45, 0]]
    np.testing.assert_allclose(smallest_angles(bases), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [(9.9, [0, 1, 2]), (10.0, [0, 0, 1]), (64.9, [0, 0, 1]), (65.1, [0, 0, 0])],
)
def test_the_threshold_is_in_degrees(tmp_path, threshold, labels):
    chosen = quick_settings(
        algorithm="pacfl", pacfl_threshold=threshold, run_dir=str(tmp_path), linkage="average"
    )
    strategy = Bench(PACFL, chosen)
    assert strategy._cluster(ANGLES).labels.tolist() == labels


@pytest.mark.parametrize(("count", "labels"), [(1, [0, 0, 0]), (2, [0, 0, 1]), (7, [0, 1, 2])])
def test_without_a_threshold_it_is_told_the_number(tmp_path, count, labels):
    chosen = quick_settings(algorithm="pacfl", num_clusters=count, run_dir=str(tmp_path))
    assert Bench(PACFL, chosen)._cluster(ANGLES).labels.tolist() == labels


def test_planted_groups_are_recovered_before_any_training(tmp_path):
    strategy, grid = run_quickly(
        tmp_path, num_clients=12, client_groups=4, label_skew=20.0, **FULL | {"num_clusters": 4}
    )
    assert adjusted_rand_index(strategy.state.assignments, strategy.context.true_groups) == 1.0
    actions = [action for action, _ in grid.sent]
    assert actions.count("query.vectors") == 12
    assert "train" not in actions
    assert "train.profile" not in actions
    with np.load(strategy.folder.path / "proximity.npz") as arrays:
        assert arrays["clients"].tolist() == sorted(strategy.state.clients)
        assert arrays["principal-angle"].shape == (12, 12)
    start = [model["primary"].floats for model in strategy.state.models]
    assert all((each == start[0]).all() for each in start)


def test_only_vectors_travel_for_the_clustering(tmp_path):
    strategy, _ = run_quickly(tmp_path, **FULL)
    sent = strategy.report.totals["bytes"]
    model = sum(weights.nbytes + 128 for weights in strategy.state.models[0].values())
    # Three vectors of 64 pixels from each of six clients; the rest is one evaluation.
    assert sent == 6 * (3 * 64 * 4 + 128) + 6 * (model + 2 * (10 * 8 + 128))


def broken(*partitions):
    def tamper(partition, action, reply):
        if action == "query.vectors" and partition in partitions:
            return replace_array(reply, "vectors", np.full_like(array_of(reply, "vectors"), np.nan))
        return reply

    return tamper


def test_faulty_vectors_cost_that_client_its_cluster_and_move_nobody(tmp_path, caplog):
    whole, _ = run_quickly(tmp_path, name="whole", **FULL)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        faulty, _ = run_quickly(tmp_path, name="faulty", tamper=broken(3), **FULL)
    assert "profile: client client-3 is left out: array 'vectors' (float32)" in caplog.text
    names = [f"client-{i}" for i in (0, 1, 2, 4, 5)]
    assert sorted(faulty.state.assignments) == names
    rest = {name: whole.state.assignments[name] for name in names}
    assert adjusted_rand_index(faulty.state.assignments, rest) == 1.0


def test_an_unseen_client_with_faulty_vectors_stays_without_a_model(tmp_path):
    changes = FULL | {"num_clients": 9, "held_out_share": 0.34}
    whole, _ = run_quickly(tmp_path, name="whole", **changes)
    first, *others = sorted(whole.evaluator.placements)
    faulty, _ = run_quickly(tmp_path, name="faulty", tamper=broken(int(first[-1])), **changes)
    assert faulty.evaluator.placements == {
        name: whole.evaluator.placements[name] for name in others
    }
    every = broken(*(int(name[-1]) for name in whole.evaluator.placements))
    none, _ = run_quickly(tmp_path, name="none", tamper=every, **changes)
    assert none.evaluator.placements == {}
    assert len(none.evaluator.evaluations) == 6


def test_too_few_vectors_are_an_error(tmp_path):
    with pytest.raises(FederationError, match="1 clients sent valid vectors, 2 needed"):
        run_quickly(tmp_path, tamper=broken(1, 2, 3, 4, 5), **FULL)
