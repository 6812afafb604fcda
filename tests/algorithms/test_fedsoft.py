import json

import numpy as np
import pytest
from algorithm_bench import Bench
from memory_grid import TRAINING, array_of, quick_settings, replace_array, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.fedsoft.server import FedSoft, draw_chances, draw_sizes, importance_of
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.records import TrainReply
from feddag_flwr.state import Client, ServerState

pytestmark = pytest.mark.integration

QUICK_SOFT = {"algorithm": "fedsoft", "num_clusters": 2, "participation": 1.0}


def weights(*floats):
    return Weights(np.array(floats, np.float32))


def model(value):
    return {"primary": weights(value), "classifier": weights(-value)}


@pytest.fixture
def fedsoft():
    """Clients a, b, c; centres 1 and 5."""
    strategy = Bench(FedSoft, quick_settings(fedsoft_lambda=0.1, fedsoft_floor=0.01))
    names = list("abc")
    strategy.state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    strategy.state.set_clusters(names, [0] * 3, [model(1), model(5)])
    strategy.algorithm.importance = {name: np.array([0.25, 0.75]) for name in names}
    strategy.algorithm.personal = {}
    return strategy


def test_importance_is_the_share_of_wins_with_a_floor():
    assert importance_of(np.array([30, 10, 0]), 1e-4).tolist() == [0.75, 0.25, 1e-4]


def test_chances_by_hand():
    # Cluster 0: 0.5 * 10 to 1 * 20 = 5 to 20; cluster 1: 0.5 * 10 to 0.25 * 20 = 5 to 5.
    chances = draw_chances(np.array([[0.5, 0.5], [1, 0.25]]), np.array([10, 20]))
    np.testing.assert_allclose(chances, [[0.2, 0.5], [0.8, 0.5]])


@pytest.mark.parametrize(
    ("total", "clusters", "sizes"),
    [(10, 5, [2] * 5), (7, 3, [3, 2, 2]), (2, 4, [1] * 4), (1, 1, [1])],
)
def test_participants_are_dealt_evenly(total, clusters, sizes):
    assert draw_sizes(total, clusters) == sizes


def test_the_mixture_and_its_pull_are_the_sum_of_the_pulls(fedsoft):
    fedsoft.importance["a"] = np.array([0.25, 0.8])
    start = fedsoft.model_of("a")
    weight = fedsoft.local_training("a").proximal
    for w in (-2.0, 3.0):
        gradient = 0.1 * (0.25 * (w - 1) + 0.8 * (w - 5))
        assert weight * (w - start["primary"].floats.item()) == pytest.approx(gradient, rel=1e-6)


def test_a_centre_is_the_plain_mean_of_those_drawn_for_it(fedsoft):
    fedsoft.algorithm._drawn = [["a", "b"], ["b"]]
    replies = {name: TrainReply(n, model(v), {}) for name, n, v in [("a", 9, 2), ("b", 1, 4)]}
    fedsoft.aggregate(1, replies)
    assert [each["primary"].floats.item() for each in fedsoft.state.models] == [3, 4]
    assert fedsoft.judged_model_of("a")["primary"].floats.item() == 2
    assert fedsoft.judged_model_of("c")["primary"].floats.item() == 3  # its cluster's centre


def test_a_centre_without_replies_stays(fedsoft):
    fedsoft.algorithm._drawn = [["a"], ["c"]]
    fedsoft.aggregate(1, {"a": TrainReply(9, model(2), {})})
    assert [each["primary"].floats.item() for each in fedsoft.state.models] == [2, 5]


def test_weights_are_estimated_every_interval(tmp_path):
    _, grid = run_quickly(
        tmp_path, num_rounds=5, evaluate_every=5, fedsoft_interval=2, **QUICK_SOFT
    )
    assert [action for action, _ in grid.sent].count("query.candidate_losses") == 3 * 6


def test_rotated_groups_weigh_their_own_centre_most(tmp_path):
    strategy, _ = run_quickly(
        tmp_path, seed=3, num_clients=8, client_groups=1, label_skew=100.0, rotations=2,
        num_rounds=8, evaluate_every=8, local_epochs=2, learning_rate=0.05, batch_size=16,
        **QUICK_SOFT,
    )  # fmt: skip
    assert adjusted_rand_index(strategy.state.assignments, strategy.context.true_groups) == 1.0
    assert all(0.99 < weights.sum() < 1.01 for weights in strategy.algorithm.importance.values())


def test_a_faulty_client_costs_itself_alone(tmp_path, caplog):
    def tamper(partition, action, message):
        if partition == 0 and action in TRAINING:
            nan = np.full_like(array_of(message, "primary.floats"), np.nan)
            return replace_array(message, "primary.floats", nan)
        if partition == 0 and action == "query.candidate_losses":
            return replace_array(message, "lowest", np.array([-1, 1]))
        return message

    strategy, _ = run_quickly(tmp_path, tamper=tamper, **QUICK_SOFT)
    assert strategy.algorithm.importance["client-0"].tolist() == [0.5, 0.5]
    assert "candidate_losses: client client-0 is left out" in caplog.text
    assert "client-0" not in strategy.algorithm.personal
    assert all(part.is_finite for each in strategy.state.models for part in each.values())
    assert len(strategy.evaluator.evaluations) == 6


def test_bytes_by_hand(tmp_path):
    strategy, grid = run_quickly(tmp_path, num_rounds=1, **QUICK_SOFT | {"num_clusters": 3})
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    one = sum(part.nbytes for part in strategy.state.models[0].values()) + 2 * 128
    trained = [action for action, _ in grid.sent].count("train")
    assert 2 <= trained <= 6
    assert line["bytes"]["down"] == {
        "candidate_losses": 6 * 3 * one, "train": trained * one, "evaluate": 6 * one
    }  # fmt: skip
    assert trained * one <= line["bytes"]["up"]["train"] < trained * (one + 1000)
