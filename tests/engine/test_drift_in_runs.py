"""Clients whose data changes are placed anew (A.9)."""

import logging

import numpy as np
import pytest
from living import CLIENTS, DRIFT, LATE, groups_of, lines
from memory_grid import (
    TRAINING,
    replace_array,
    run_quickly,
)

from feddag_flwr.engine.resumption import checkpoint_of
from feddag_flwr.simulation.grid import FIRST_NODE

pytestmark = pytest.mark.integration


def test_clients_that_drift_are_placed_anew_and_nobody_else_moves(tmp_path):
    strategy, grid = run_quickly(tmp_path, **DRIFT)
    log = lines(strategy)
    # Round 2 trains on the new data and finds it; round 3 profiles and places.
    drifted = log[2]["drifted"]
    quiet, _ = run_quickly(tmp_path, name="quiet", **DRIFT | {"num_rounds": 0, "drift_share": 0.0})
    before, after = quiet.context.true_groups, strategy.context.true_groups
    assert drifted == sorted(name for name in before if before[name] != after[name])
    assert len(drifted) >= 4
    assert "drifted" not in log[1]
    assert sorted(log[3]["placed"]) == drifted
    assert not set(drifted) & set(log[3]["sampled"])
    assert set(drifted) <= set(log[4]["sampled"])
    assert all("drifted" not in line for line in log[3:])
    groups = groups_of(strategy, strategy.state.assignments)
    assert all(len(clusters) == 1 for clusters in groups.values())
    assert len(groups) == strategy.state.num_clusters == 3
    assert set(log[3].get("moved", {})) <= set(drifted)
    assert not any("moved" in line for line in (log[1], log[2], *log[4:]))
    profiled = [node for action, node in grid.sent if action == "train.profile"]
    assert len(profiled) == CLIENTS + len(drifted)


def test_drift_of_clients_that_are_not_drawn_is_found_when_all_are_evaluated(tmp_path):
    changes = {"participation": 0.12, "drift_round": 4, "num_rounds": 5}
    strategy, _ = run_quickly(tmp_path, **DRIFT | changes)
    log = lines(strategy)
    assert len(log[4]["drifted"]) >= 4
    assert sorted(log[5]["placed"]) == log[4]["drifted"]


def test_stationary_data_raises_no_alarm(tmp_path):
    changes = DRIFT | {"drift_share": 0.0, "num_rounds": 8}
    strategy, _ = run_quickly(tmp_path, **changes)
    assert all("drifted" not in line for line in lines(strategy))


def test_a_client_that_always_says_it_has_drifted_takes_no_more_room(tmp_path):
    def tamper(partition, action, reply):
        if action in TRAINING and partition == 3:
            reply.content.config_records["info"]["drifted"] = True
        return reply

    changes = DRIFT | {"drift_share": 0.0, "num_rounds": 16}
    strategy, grid = run_quickly(tmp_path, tamper=tamper, **changes)
    profiled = [node for action, node in grid.sent if action == "train.profile"]
    # At the start and in rounds 2, 4, 6; told again in 7 it waits for 4 rounds since, in 11 for 8.
    assert profiled.count(FIRST_NODE + 3) == 5
    assert [line["round"] for line in lines(strategy) if "placed" in line] == [2, 4, 6, 10]
    assert checkpoint_of(strategy).notes["replaced"] == {"client-3": [2, 4, 6, 10]}
    assert len(strategy.algorithm._profiles.arrays.updates) == CLIENTS + 1
    assert strategy.algorithm._profiles.placed_since == 1
    assert not any("moved" in line for line in lines(strategy)[1:])


LOOKS = DRIFT | {
    "client_groups": 1,
    "label_skew": 30.0,
    "dirichlet_alpha": 1000.0,
    "drift_share": 0.34,
    "looks_level": 1e-6,
}


@pytest.mark.parametrize("looks", ["turned", "upside-down", "inverted"])
def test_other_looks_of_the_same_classes_are_told_within_two_rounds(tmp_path, caplog, looks):
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, **LOOKS | {"drift_looks": looks})
    log = lines(strategy)
    told = log[2]["drifted"]
    assert len(told) == 3
    assert "drifted" not in log[1]
    assert sorted(log[3]["placed"]) == told
    assert all("drifted" not in line for line in log[3:])
    for name in told:
        assert f"client {name} has drifted, its looks have changed: it will be" in caplog.text


def test_looks_are_not_looked_at_by_default_and_unchanged_data_is_no_drift(tmp_path):
    quiet, _ = run_quickly(
        tmp_path, name="quiet", **LOOKS | {"drift_looks": "inverted", "looks_level": 0.0}
    )
    steady, _ = run_quickly(tmp_path, name="steady", **LOOKS | {"drift_share": 0.0})
    for strategy in (quiet, steady):
        assert all("drifted" not in line for line in lines(strategy))
    plain, _ = run_quickly(
        tmp_path, name="plain", **LOOKS | {"drift_share": 0.0, "looks_level": 0.0}
    )
    for one, other in zip(lines(steady), lines(plain), strict=True):
        assert one.get("all") == other.get("all")


def test_looks_that_cannot_be_cost_that_client_alone(tmp_path, caplog):
    def tamper(partition, action, reply):
        if action == "train.full_profile" and partition == 4:
            return replace_array(reply, "number.looks", np.full(7, np.nan))
        return reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, tamper=tamper, **LOOKS | {"drift_share": 0.0, "num_rounds": 2}
        )
    assert "client-4" not in strategy.state.assignments
    assert len(strategy.state.assignments) == CLIENTS - 1
    assert "array 'number.looks'" in caplog.text


def test_drift_is_not_looked_for_at_threshold_zero(tmp_path):
    strategy, _ = run_quickly(tmp_path, **DRIFT | {"drift_threshold": 0.0})
    assert all("drifted" not in line for line in lines(strategy))


GRAPH = {"teacher_clusters": "graph", "classifier_training": "joint", "top_k": 1}


@pytest.mark.parametrize(
    ("sharing", "teachers"),
    [
        (GRAPH, ((), (2,), (1,))),
        ({}, ((), (1, 2), (1, 2))),
        ({"secondary": "own"}, ((), (1,), (2,))),
    ],
)
def test_nobody_learns_from_a_cluster_that_all_have_left(tmp_path, caplog, sharing, teachers):
    """All of cluster 0 say that they have drifted; placed elsewhere, they leave it empty."""
    shared = LATE | {"newcomer_share": 0.0, "secondary": "shared", "num_rounds": 0} | sharing
    first, _ = run_quickly(tmp_path, name="first", **shared)
    leavers = [name for name, z in first.state.assignments.items() if z == 0]

    def tamper(partition, action, reply):
        if action in TRAINING and f"client-{partition}" in leavers and not done:
            reply.content.config_records["info"]["drifted"] = True
        done.extend([1] * (action == "train.profile" and len(seen) >= CLIENTS))
        seen.append(1) if action == "train.profile" else None
        return reply

    seen, done = [], []
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, **shared | {"num_rounds": 3})
    assert "cluster 0 is empty now: teachers are drawn anew" in caplog.text
    assert 0 not in strategy.state.assignments.values()
    assert strategy.state.teachers == teachers
    assert strategy.state.num_clusters == 3


def test_when_everybody_drifts_all_are_clustered_anew(tmp_path):
    strategy, _ = run_quickly(tmp_path, **DRIFT | {"drift_share": 1.0})
    log = lines(strategy)
    assert len(log[2]["drifted"]) == CLIENTS
    groups = groups_of(strategy, strategy.state.assignments)
    assert all(len(clusters) == 1 for clusters in groups.values())
    assert len(groups) == strategy.state.num_clusters == 3
