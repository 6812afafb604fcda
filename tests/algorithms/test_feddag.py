"""Whole runs of FedDAG and its variants."""

import functools
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from feddag_bench import GRAPH, parts_sent
from flwr.app import Array
from memory_grid import TRAINING, array_of, failed, run_quickly

from feddag_flwr.algorithms.feddag.profiling import DiskBackedWeights
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.engine.registration import FederationError
from feddag_flwr.models.flat import get_parts

pytestmark = pytest.mark.integration


@functools.cache
def shared_run(shared_folder, secondary):
    """One run of two rounds a kind of secondary encoder, for the tests that only look at it."""
    return parts_sent(shared_folder / f"secondary-{secondary}", "run", secondary=secondary)


def test_the_single_encoder_variant(shared_folder):
    strategy, seen = shared_run(shared_folder, "none")
    assert list(strategy.state.models[0]) == ["primary", "classifier"]
    assert strategy.state.teachers == ()
    assert set(map(tuple, seen.values())) == {("classifier", "primary")}


def test_dagger_trains_its_own_secondary_encoder(shared_folder):
    strategy, seen = shared_run(shared_folder, "own")
    assert strategy.state.teachers == ((0,), (1,), (2,))
    assert set(map(tuple, seen.values())) == {("classifier", "primary", "transfer")}
    assert len(strategy.state.models) == 3
    secondaries = [model["secondary"].floats for model in strategy.state.models]
    assert (secondaries[0] != secondaries[1]).any()


def test_all_clusters_train_one_secondary_encoder(shared_folder):
    strategy, seen = shared_run(shared_folder, "shared")
    assert strategy.state.teachers == ((0, 1, 2),) * 3
    assert set(map(tuple, seen.values())) == {("classifier", "primary", "transfer")}
    start = strategy.context.initial_model(dual=True)
    first, *others = [model["secondary"] for model in strategy.state.models]
    assert all(other.equals(first) for other in others)
    assert not first.equals(get_parts(start)["secondary"])


def test_by_halves_the_primary_encoders_are_those_of_the_single_encoder_variant(
    tmp_path, shared_folder
):
    shared, _ = shared_run(shared_folder, "shared")
    star, _ = shared_run(shared_folder, "none")
    paper, _ = parts_sent(tmp_path, "joint", **GRAPH)
    for one, other, joint in zip(
        shared.state.models, star.state.models, paper.state.models, strict=True
    ):
        assert one["primary"].equals(other["primary"])
        half = other["classifier"].floats.size
        assert (one["classifier"].floats[:half] == other["classifier"].floats).all()
        assert not joint["primary"].equals(other["primary"])


@pytest.mark.parametrize("secondary", ["shared", "own"])
def test_a_secondary_round_by_halves_moves_s_and_its_half_alone(tmp_path, secondary):
    models = []
    for rounds in (1, 2):
        changes = {"schedule": "1:1", "secondary": secondary, "participation": 1.0}
        strategy, _ = run_quickly(tmp_path, name=f"{rounds}", num_rounds=rounds, **changes)
        models.append(strategy.state.models)
    half = strategy.context.initial_model(dual=False).classifier
    size = sum(parameter.numel() for parameter in half.parameters())
    for before, after in zip(*models, strict=True):
        assert after["primary"].equals(before["primary"])
        assert not after["secondary"].equals(before["secondary"])
        moved = before["classifier"].floats != after["classifier"].floats
        assert not moved[:size].any()
        assert moved[size:].any()


@pytest.mark.parametrize("secondary", ["shared", "own"])
def test_by_halves_a_secondary_encoder_has_no_say_until_it_is_trained(tmp_path, secondary):
    """Under a K:1 schedule, whose first K rounds leave it as it was."""
    changes = {"participation": 1.0, "evaluate_every": 1}
    strategy, _ = run_quickly(
        tmp_path, name="dual", num_rounds=3, schedule="2:1", secondary=secondary, **changes
    )
    star, _ = run_quickly(tmp_path, name="star", num_rounds=2, secondary="none", **changes)

    def judged(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [(line["all"], line["participants"]) for line in map(json.loads, lines[1:3])]

    assert judged("dual") == judged("star")
    half = star.state.models[0]["classifier"].floats.size
    assert all(model["classifier"].floats[half:].any() for model in strategy.state.models)


def test_where_both_phases_run_at_once_the_classifier_starts_whole_at_random(tmp_path):
    for training in ("separate", "joint"):
        for schedule in ("both", "3:1"):
            changes = {"classifier_training": training, "schedule": schedule, "num_rounds": 0}
            strategy, _ = run_quickly(tmp_path, name=f"{training}-{schedule[0]}", **changes)
            start = get_parts(strategy.context.initial_model(dual=True))["classifier"]
            silent = training == "separate" and schedule == "3:1"
            assert start.equals(strategy.state.models[0]["classifier"]) != silent


def test_what_a_secondary_phase_lacks_costs_the_round_nothing(tmp_path, caplog):
    """By halves all clusters train S: one cluster whose clients send NaN does not move it."""

    def tamper(partition, action, reply):
        if action in TRAINING and f"client-{partition}" in spoilt:
            array = array_of(reply, "transfer.floats").copy()
            array[0] = np.nan
            reply.content.array_records["arrays"]["transfer.floats"] = Array(array)
        return reply

    spoilt = []
    first, _ = parts_sent(tmp_path, "first", num_rounds=0)
    spoilt += [name for name, z in first.state.assignments.items() if z == 0]
    strategy, _ = run_quickly(tmp_path, tamper=tamper, participation=1.0, num_rounds=1)
    before, after = first.state.models, strategy.state.models
    assert after[0]["primary"].equals(before[0]["primary"])
    assert after[0]["classifier"].equals(before[0]["classifier"])
    for model in after:
        assert model["secondary"].equals(after[0]["secondary"])
        assert model["secondary"].is_finite
        assert not model["secondary"].equals(before[0]["secondary"])
    assert not after[1]["primary"].equals(before[1]["primary"])


def test_the_graph_has_the_teachers_asked_for_and_no_loops(tmp_path):
    strategy, _ = parts_sent(tmp_path, "one-source", top_k=1, num_rounds=0, **GRAPH)
    assert all(len(row) == 1 and row[0] != z for z, row in enumerate(strategy.state.teachers))
    many, _ = parts_sent(tmp_path, "many", top_k=50, num_rounds=0, **GRAPH)
    assert [len(row) for row in many.state.teachers] == [2, 2, 2]


def test_a_schedule_decides_what_is_sent(tmp_path):
    for training, second in (("joint", ("transfer",)), ("separate", ("classifier", "transfer"))):
        _, seen = parts_sent(
            tmp_path, training, schedule="1:1", secondary="own", classifier_training=training
        )
        sent = {
            number: {tuple(p) for (r, _), p in seen.items() if r == number} for number in (1, 2)
        }
        assert sent == {1: {("classifier", "primary")}, 2: {second}}


def test_what_parted_the_clients_is_written_and_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, num_rounds=0)
    root = strategy.algorithm._profiles.arrays.tree.root
    written = json.loads((tmp_path / "run" / "clustering.json").read_text())["tests"]
    assert (written["clients"], written["parted-by"]) == (root.clients, "label-set")
    assert written["p-values"] == root.chances
    assert written["level"] == root.level
    assert [part["parted-by"] for part in written["parts"]] == [None] * strategy.state.num_clusters
    assert "clusters at threshold 0.500, parted by label-set (1 test)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="flwr"):
        run_quickly(tmp_path, name="data", fusion="data", num_rounds=0)
    assert json.loads((tmp_path / "data" / "clustering.json").read_text())["tests"] is None
    assert "mean fusion weight 0.00" in caplog.text


@pytest.mark.parametrize(("fusion", "weight"), [("data", 0.0), ("gradient", 1.0)])
def test_single_views_fix_the_fusion_weights(tmp_path, fusion, weight):
    run_quickly(tmp_path, name=fusion, fusion=fusion, num_rounds=0)
    with np.load(tmp_path / fusion / "proximity.npz") as arrays:
        view = arrays[fusion]
        off = ~np.eye(len(view), dtype=bool)
        scaled = (view - view[off].min()) / (view[off].max() - view[off].min())
        np.testing.assert_allclose(arrays["fused"][off], scaled[off], atol=1e-9)
        assert set(arrays["fusion-weights"]) == {weight}


@pytest.mark.parametrize(
    "changes",
    [
        {"angle": "principal"},
        {"alignment": False, "num_rounds": 1, **GRAPH},
        {"linkage": "complete"},
        {"linkage": "single"},
        {"threshold_step": 0.0},
        {"weight_scope": "all"},
        {"weight_delta": 0.0},
        {"subspace_size": 0.05},
    ],
)
def test_every_variant_runs_and_finds_the_three_groups(tmp_path, changes):
    strategy, _ = run_quickly(tmp_path, **{"num_rounds": 0} | changes)
    assert adjusted_rand_index(strategy.state.assignments, strategy.context.true_groups) == 1.0


def test_two_clients_are_enough(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_clients=2, client_groups=2)
    assert len(strategy.state.assignments) == 2


def test_a_lone_cluster_trains_its_own_secondary_encoder(three_clusters, caplog):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert three_clusters._sharing.by(SimpleNamespace(teachers=((),)), 1) == [[0]]
    assert "one cluster only" in caplog.text


def test_an_overflowed_size_penalty_is_written_as_null(tmp_path):
    run_quickly(
        tmp_path, size_tau=0.001, size_gamma=0.0, threshold_step=0.0, num_rounds=0, fusion="entropy"
    )
    text = (tmp_path / "run" / "clustering.json").read_text()
    assert any(row["loss"] is None for row in json.loads(text)["sweep"])


def test_the_file_of_encoders_is_closed_when_too_few_can_be_clustered(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(DiskBackedWeights, "close", lambda self: closed.append(self._file.close()))

    def tamper(partition, action, reply):
        return failed(reply) if action == "train.profile" else reply

    with pytest.raises(FederationError, match="0 of 6 clients sent a valid profile"):
        run_quickly(tmp_path, tamper=tamper)
    assert closed == [None]
