import json

import numpy as np
import pytest
from algorithm_bench import Bench
from memory_grid import TRAINING, array_of, quick_settings, replace_array, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.fedrc.messages import (
    MixtureReply,
    ResponsibilitiesRequest,
)
from feddag_flwr.algorithms.fedrc.server import FedRC, class_shares
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.records import Limits, RecordError, RequestHeader
from feddag_flwr.state import Client, ServerState

pytestmark = pytest.mark.integration

QUICK_RC = {"algorithm": "fedrc", "num_clusters": 2, "participation": 1.0}


def model(value, prefix=""):
    return {
        f"{prefix}primary": Weights(np.array([value], np.float32)),
        f"{prefix}classifier": Weights(np.array([-value], np.float32)),
    }


@pytest.fixture
def fedrc():
    """Clients a, b, c; two models 1 and 5, two classes."""
    strategy = Bench(FedRC, quick_settings())
    names = list("abc")
    strategy.state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    strategy.state.set_clusters(names, [0] * 3, [model(1), model(5)])
    strategy.algorithm.responsibilities = {}
    strategy.algorithm.label_shares = np.full((2, 2), 0.5)
    return strategy


def reply(samples, values, responsibilities):
    parts = model(values[0], "0/") | model(values[1], "1/")
    table = np.array(responsibilities, np.float64)
    return MixtureReply(samples, parts, {}, responsibilities=table)


def test_a_round_by_hand(fedrc):
    replies = {"a": reply(4, (2, 6), [[1, 0], [1, 2]]), "b": reply(12, (4, 2), [[6, 3], [2, 1]])}
    assert fedrc.prior_of("a").tolist() == [[0, 0], [0, 0]]  # log 1/2 - log 1/2
    fedrc.aggregate(1, replies)
    # (4 * 2 + 12 * 4) / 16 and (4 * 6 + 12 * 2) / 16
    assert [each["primary"].floats.item() for each in fedrc.state.models] == [3.5, 3]
    assert fedrc.state.assignments == {"a": 1, "b": 0, "c": 0}
    # Sums [[7, 3], [3, 3]]: C = [[.7, .3], [.5, .5]]; omega_a = (1/4, 3/4); c: (1/2, 1/2).
    np.testing.assert_allclose(
        fedrc.prior_of("a"), np.log([[0.25 / 0.7, 0.25 / 0.3], [0.75 / 0.5, 0.75 / 0.5]])
    )
    np.testing.assert_allclose(fedrc.prior_of("c")[1], [0, 0])


def test_the_last_shares_of_clients_not_drawn_still_count(fedrc):
    fedrc.aggregate(1, {"a": reply(4, (2, 6), [[2, 0], [0, 2]])})
    fedrc.aggregate(2, {"b": reply(4, (2, 6), [[0, 2], [2, 0]])})
    np.testing.assert_allclose(fedrc.label_shares, [[0.5, 0.5], [0.5, 0.5]])


def test_a_round_without_replies_changes_nothing(fedrc):
    fedrc.aggregate(1, {})
    assert [each["primary"].floats.item() for each in fedrc.state.models] == [1, 5]


def test_a_model_that_answers_for_nothing_stays_finite(fedrc):
    responsibilities = class_shares(np.array([[3.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(responsibilities, [[0.75, 0.25], [0.5, 0.5]])
    fedrc.aggregate(1, {"a": reply(4, (2, 6), [[3, 1], [0, 0]])})
    assert np.isfinite(fedrc.prior_of("a")).all()


@pytest.mark.parametrize(
    ("responsibilities", "message"),
    [
        ([[5.0, -1.0], [0, 0]], "add up to 4"),
        ([[5.0, 0], [0, 0]], "add up to 5"),
        ([[4.0]], "shape"),
    ],
)
def test_shares_are_checked(responsibilities, message):
    header = RequestHeader("a", 1, ("x", "y"), (1, 8, 8), ((0.0, 1.0),))
    request = ResponsibilitiesRequest(header, (model(1), model(5)), np.zeros((2, 2)))
    arrays = {"number.responsibilities": np.array(responsibilities, np.float64)}
    content = header.reply(arrays=arrays)
    with pytest.raises(RecordError, match=message):
        request.read_reply(content, Limits(4))


def test_rotated_groups_are_found(tmp_path):
    strategy, _ = run_quickly(
        tmp_path, seed=1, num_clients=8, client_groups=1, label_skew=100.0, rotations=2,
        num_rounds=4, evaluate_every=4, local_epochs=2, learning_rate=0.05, batch_size=16,
        **QUICK_RC,
    )  # fmt: skip
    assert adjusted_rand_index(strategy.state.assignments, strategy.context.true_groups) == 1.0


def test_a_faulty_client_costs_itself_alone(tmp_path, caplog):
    def tamper(partition, action, message):
        if partition == 0 and action in TRAINING:
            nan = np.full_like(array_of(message, "1/primary.floats"), np.nan)
            return replace_array(message, "1/primary.floats", nan)
        if partition == 1 and action in TRAINING:
            return replace_array(
                message, "number.responsibilities", -array_of(message, "number.responsibilities")
            )
        if partition == 0 and action == "query.responsibilities":
            return replace_array(message, "number.responsibilities", np.ones((2, 3)))
        return message

    strategy, _ = run_quickly(tmp_path, tamper=tamper, **QUICK_RC)
    assert sorted(strategy.algorithm.responsibilities) == [f"client-{i}" for i in range(2, 6)]
    assert strategy.state.assignments["client-0"] == 0
    for kind, name in (("train", 0), ("train", 1), ("candidate_losses", 0)):
        assert f"{kind}: client client-{name} is left out" in caplog.text
    assert all(part.is_finite for each in strategy.state.models for part in each.values())
    assert len(strategy.evaluator.evaluations) == 6


def test_one_huge_update_of_one_model_is_left_out(tmp_path, caplog):
    def tamper(partition, action, message):
        if partition == 2 and action in TRAINING:
            huge = array_of(message, "1/primary.floats") * 1e6
            return replace_array(message, "1/primary.floats", huge)
        return message

    strategy, _ = run_quickly(tmp_path, tamper=tamper, num_rounds=1, **QUICK_RC)
    assert "client-2 is left out: its update of primary" in caplog.text
    assert "client-2" not in strategy.algorithm.responsibilities
    assert len(strategy.algorithm.responsibilities) == 5


def test_unseen_clients_are_placed_by_their_shares(tmp_path):
    strategy, grid = run_quickly(tmp_path, held_out_share=0.34, **QUICK_RC)
    assert len(strategy.evaluator.placements) == 2
    assert not set(strategy.evaluator.placements) & set(strategy.algorithm.responsibilities)
    # Before the evaluation the four seen clients, then the two others.
    assert [action for action, _ in grid.sent].count("query.responsibilities") == 6


def test_bytes_by_hand(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=1, **QUICK_RC | {"num_clusters": 3})
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    one = sum(part.nbytes for part in strategy.state.models[0].values()) + 2 * 128
    classes = len(strategy.state.class_names)
    table = 128 + 3 * classes * 8
    down, up = line["bytes"]["down"], line["bytes"]["up"]
    assert down == {
        "train": 6 * (3 * one + table),
        "candidate_losses": 6 * (3 * one + table),
        "evaluate": 6 * one,
    }  # fmt: skip
    assert up["candidate_losses"] == 6 * table
    assert 6 * (3 * one + table) <= up["train"] < 6 * (3 * one + table + 1000)
