"""FedDAG with one encoder, which all clusters train, and a head a cluster (``encoders = one``)."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from algorithm_bench import Bench
from judgements import evaluation
from memory_grid import TRAINING, MemoryGrid, failed, let_come_later, quick_settings, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.server import FedDAG
from feddag_flwr.algorithms.feddag.settings import SharingSettings
from feddag_flwr.engine.runs import open_run
from feddag_flwr.records import TrainReply
from feddag_flwr.settings import Settings
from feddag_flwr.simulation.grid import FIRST_NODE
from feddag_flwr.state import Client, ServerState

pytestmark = pytest.mark.integration

ONE = {"encoders": "one", "participation": 1.0, "num_rounds": 3}
CLIENTS = 9
LIVING = ONE | {"num_clients": CLIENTS, "warmup_epochs": 1, "evaluate_every": 3}


def encoders_of(strategy):
    return [model["primary"] for model in strategy.state.models]


def is_one(strategy):
    """Whether all clusters have the same encoder, and clusters have been found at all."""
    first, *others = encoders_of(strategy)
    return bool(others) and all(other.equals(first) for other in others)


def weights(*floats):
    return Weights(np.array(floats, np.float32))


# -- a round, by hand ------------------------------------------------------------------------------


@pytest.fixture
def three_clusters(tmp_path):
    """Clients a; b and c; nobody: clusters 0, 1, 2 of one encoder, 3 and 4, heads 10, 20, 30."""
    settings = Settings.from_run_config({"run-dir": str(tmp_path), "encoders": "one"})
    bench = Bench(FedDAG, settings)
    clients = {name: Client(name, count, 1) for name, count in zip("abc", (1, 2, 5), strict=True)}
    bench.state = ServerState(("x", "y"), (1, 8, 8), ((0.0, 1.0),), clients)
    models = [{"primary": weights(3, 4), "classifier": weights(10 * (z + 1))} for z in range(3)]
    bench.state.set_clusters("abc", [0, 1, 1], models)
    return bench


def reply(samples, encoder, head):
    parts = {"primary": weights(*encoder), "classifier": weights(head)}
    return TrainReply(samples, parts, {}, evaluation([0], [0]))


def test_the_encoder_is_averaged_over_all_clients_and_heads_within_clusters(three_clusters):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(3, 2)).astype(np.float32)
    counts, heads = [1, 2, 5], [1.0, 2.0, 9.0]
    each = zip("abc", counts, values, heads, strict=True)
    replies = {name: reply(count, encoder, head) for name, count, encoder, head in each}
    three_clusters.before_round(1, [])
    three_clusters.aggregate(1, replies)
    expected = np.average(values.astype(np.float64), axis=0, weights=counts).astype(np.float32)
    for model in three_clusters.state.models:
        np.testing.assert_array_equal(model["primary"].floats, expected)
    # b and c: (2 * 2 + 5 * 9) / 7; nobody is in cluster 2.
    assert [model["classifier"].floats.tolist() for model in three_clusters.state.models] == [
        [1], [7], [30]
    ]  # fmt: skip


def test_clusters_without_a_reply_take_the_encoder_over_and_keep_their_heads(three_clusters):
    three_clusters.aggregate(1, {"c": reply(5, (7, 8), 21)}, asked="abc")
    models = three_clusters.state.models
    assert [model["primary"].floats.tolist() for model in models] == [[7, 8]] * 3
    assert [model["classifier"].floats.tolist() for model in models] == [[10], [21], [30]]
    three_clusters.aggregate(2, {}, asked="abc")
    assert [model["primary"].floats.tolist() for model in models] == [[7, 8]] * 3


def test_an_encoder_that_overflows_is_nobodys(three_clusters, caplog):
    three_clusters.aggregate(1, {"a": reply(1, (np.inf, 1), 5)})
    models = three_clusters.state.models
    assert [model["primary"].floats.tolist() for model in models] == [[3, 4]] * 3
    assert [model["classifier"].floats.tolist() for model in models] == [[5], [20], [30]]


def test_the_aggregator_sees_the_clients_of_all_clusters_and_the_encoder_they_started_from(
    three_clusters,
):
    seen = []

    def aggregate(updates, counts, reference):
        seen.append((len(updates), list(counts), reference.floats.tolist()))
        return reference

    three_clusters.context.aggregator = SimpleNamespace(aggregate=aggregate)
    names = {"a": reply(1, (1, 1), 0), "b": reply(2, (2, 2), 0), "c": reply(5, (3, 3), 0)}
    three_clusters.aggregate(1, names)
    assert seen == [(1, [1], [10]), (2, [2, 5], [20]), (3, [1, 2, 5], [3, 4])]


def test_a_later_clustering_keeps_the_encoder_to_the_bit(three_clusters):
    rng = np.random.default_rng(4)
    encoder = Weights(rng.normal(size=1000).astype(np.float32))
    for model in three_clusters.state.models:
        model["primary"] = encoder
    grouping = SimpleNamespace(
        names=list("abc"),
        labels=np.array([0, 0, 1]),
        graph=None,
        chosen=SimpleNamespace(num_clusters=2),
        clusters=lambda: [["a", "b"], ["c"]],
    )
    three_clusters._set_clusters(grouping, three_clusters._inherited_models(grouping))
    models = three_clusters.state.models
    assert all(model["primary"].equals(encoder) for model in models)
    # a from cluster 0, b from 1: (1 * 10 + 2 * 20) / 3.
    np.testing.assert_allclose(models[0]["classifier"].floats, [50 / 3], rtol=1e-6)
    assert models[1]["classifier"].floats.tolist() == [20]


# -- whole runs ------------------------------------------------------------------------------------


def test_one_round_is_the_average_of_what_clients_send(tmp_path):
    """Against the replies themselves, and numpy."""
    replies = {}

    def keep(partition, action, message):
        if action in TRAINING:
            arrays = message.content.array_records["arrays"]
            samples = message.content.config_records["info"]["samples"]
            parts = ("primary", "classifier")
            sent = {part: arrays[f"{part}.floats"].numpy().copy() for part in parts}
            replies[f"client-{partition}"] = samples, sent
        return message

    strategy, _ = run_quickly(tmp_path, tamper=keep, **ONE | {"num_rounds": 1})
    assert len(replies) == 6

    def average(names, part):
        counts = [replies[name][0] for name in names]
        sent = [replies[name][1][part].astype(np.float64) for name in names]
        return np.average(sent, axis=0, weights=counts)

    for cluster, model in enumerate(strategy.state.models):
        members = [client.name for client in strategy.state.members(cluster)]
        np.testing.assert_allclose(
            model["primary"].floats, average(sorted(replies), "primary"), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(
            model["classifier"].floats, average(members, "classifier"), rtol=1e-5, atol=1e-7
        )
    assert is_one(strategy)


@pytest.mark.parametrize("initialisation", ["warm", "random"])
def test_the_encoder_starts_as_the_setting_says(tmp_path, initialisation):
    changes = ONE | {"num_rounds": 0}
    strategy, _ = run_quickly(tmp_path, name="one", initialisation=initialisation, **changes)
    alone, _ = run_quickly(tmp_path, name="two", **changes | {"encoders": "two"})
    random = alone.context.initial_model(dual=False).primary
    start = alone.state.models[0]["secondary"].floats  # the mean of all warmed-up encoders
    if initialisation == "random":
        start = np.concatenate([each.detach().numpy().ravel() for each in random.parameters()])
    assert is_one(strategy)
    np.testing.assert_array_equal(encoders_of(strategy)[0].floats, start)
    assert all(model.keys() == {"primary", "classifier"} for model in strategy.state.models)


def test_the_encoder_stays_one_where_clusters_have_no_participant_and_fail(tmp_path):
    first, _ = run_quickly(tmp_path, name="first", **ONE | {"num_rounds": 0})
    silent = [name for name, z in first.state.assignments.items() if z == 1]

    def tamper(partition, action, message):
        fails = action in TRAINING and f"client-{partition}" in silent
        return failed(message) if fails else message

    one, _ = run_quickly(tmp_path, name="few", **ONE | {"participation": 0.2})
    two, _ = run_quickly(tmp_path, name="fails", tamper=tamper, **ONE)
    for strategy in (one, two):
        assert is_one(strategy)
        assert not encoders_of(strategy)[0].equals(encoders_of(first)[0])
    assert two.state.models[1]["classifier"].equals(first.state.models[1]["classifier"])


def test_an_empty_cluster_has_the_encoder_of_all(tmp_path):
    """All of cluster 0 say once that they have drifted; placed elsewhere, they leave it empty."""
    first, _ = run_quickly(tmp_path, name="first", **LIVING | {"num_rounds": 0})
    leavers = [name for name, z in first.state.assignments.items() if z == 0]
    profiles = []

    def tamper(partition, action, message):
        if action == "train.profile":
            profiles.append(partition)
        if action in TRAINING and f"client-{partition}" in leavers and len(profiles) == CLIENTS:
            message.content.config_records["info"]["drifted"] = True
        return message

    strategy, _ = run_quickly(tmp_path, tamper=tamper, **LIVING | {"recluster_share": 0.0})
    assert 0 not in strategy.state.assignments.values()
    assert strategy.state.num_clusters == 3
    assert is_one(strategy)


def test_newcomers_and_drift_leave_one_encoder(tmp_path):
    late = {"newcomer_share": 0.34, "newcomer_round": 2}
    drift = {"drift_share": 0.67, "drift_round": 2, "num_rounds": 4}
    for changes in (late, drift):
        strategy, _ = run_quickly(tmp_path, name=min(changes), **LIVING | changes)
        assert len(strategy.state.assignments) == CLIENTS
        assert is_one(strategy)


def test_a_group_that_comes_late_gets_a_head_of_its_own_on_the_one_encoder(tmp_path, caplog):
    """Clients of a third group are placed with the nearest at first, then all clustered anew."""
    first, _ = run_quickly(tmp_path, name="all", **LIVING | {"num_rounds": 0})
    changes = LIVING | {"num_rounds": 4, "recluster_share": 0.3, "min_clients": 2}
    settings = quick_settings(run_dir=str(tmp_path), run_name="late", **changes)
    grid = MemoryGrid(settings)
    late = {
        FIRST_NODE + int(name.removeprefix("client-"))
        for name, group in first.context.true_groups.items()
        if group == 2
    }
    let_come_later(grid, late)
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, name="late", grid=grid, **changes)
    assert "clustered anew: groups have changed" in caplog.text
    assert strategy.state.num_clusters == 3
    assert is_one(strategy)


def test_held_out_clients_and_personalisation_work_with_it(tmp_path):
    changes = {"num_clients": CLIENTS, "held_out_share": 0.34, "personalisation_epochs": 1}
    strategy, _ = run_quickly(tmp_path, **ONE | changes | {"evaluate_every": 3})
    last = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()][-1]
    assert len(last["held-out"]["by-client"]) == 3
    assert len(last["held-out-personalised"]["by-client"]) == 3
    assert len(last["personalised"]["by-client"]) == 6
    assert is_one(strategy)


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path):
    changes = ONE | {"observers": "round-log, checkpoints, closing-table"}
    whole, _ = run_quickly(tmp_path, name="whole", **changes)

    class Killed(BaseException):
        pass

    def die(partition, action, message):
        if action in TRAINING and message.content.config_records["info"]["round"] == 3:
            raise Killed
        return message

    with pytest.raises(Killed):
        run_quickly(tmp_path, name="stopped", tamper=die, **changes)
    settings = quick_settings(run_dir=str(tmp_path), resume=str(tmp_path / "stopped"), **changes)
    resumed = open_run(settings)
    resumed.start(MemoryGrid(settings, seed=2))
    for path in ("metrics.jsonl", "summary.json", "checkpoints/round-000003/manifest.json"):
        stopped, expected = (tmp_path / name / path for name in ("stopped", "whole"))
        assert stopped.read_bytes() == expected.read_bytes(), path
    assert is_one(resumed)
    assert encoders_of(resumed)[0].equals(encoders_of(whole)[0])


def test_it_moves_the_bytes_of_the_single_encoder_variant(tmp_path):
    def traffic(name, **changes):
        run_quickly(tmp_path, name=name, **ONE | changes)
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()]
        return [line["bytes"] for line in lines]

    one, star = traffic("one"), traffic("star", encoders="two", secondary="none")
    assert one == star
    assert sum(one[-1]["down"].values()) < sum(traffic("two", encoders="two")[-1]["down"].values())


def test_there_is_a_secondary_encoder_only_beside_two():
    found = {
        (encoders, secondary): SharingSettings(encoders=encoders, secondary=secondary).dual
        for encoders in ("two", "one")
        for secondary in ("shared", "own", "none")
    }
    assert [pair for pair, dual in found.items() if dual] == [("two", "shared"), ("two", "own")]
