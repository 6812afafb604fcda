"""FedDAG places clients that training never saw (Algorithm 4)."""

import json
import logging

import numpy as np
import pytest
from memory_grid import array_of, replace_array, run_quickly

from feddag_flwr.algorithms.feddag.server import FedDAG

pytestmark = pytest.mark.integration

LATE = {
    "num_clients": 9,
    "held_out_share": 0.34,
    "num_rounds": 1,
    "evaluate_every": 1,
    "secondary": "none",
    "warmup_epochs": 2,
}


def cluster_of_group(strategy):
    return {strategy.context.true_groups[name]: z for name, z in strategy.state.assignments.items()}


@pytest.mark.parametrize("fusion", ["evidence", "entropy", "data", "gradient"])
def test_newcomers_land_in_their_true_group(tmp_path, fusion):
    strategy, _ = run_quickly(
        tmp_path, fusion=fusion, **LATE | {"num_rounds": 0, "warmup_epochs": 6}
    )
    assert strategy.state.num_clusters == 3
    assert len(strategy.evaluator.placements) == 3
    groups = cluster_of_group(strategy)
    assert len(groups) == 3
    for name, cluster in strategy.evaluator.placements.items():
        assert cluster == groups[strategy.context.true_groups[name]]


def test_nobody_else_moves_and_newcomers_are_judged_by_their_cluster(tmp_path):
    strategy, grid = run_quickly(tmp_path, **LATE)
    before, _ = run_quickly(tmp_path, name="before", **LATE | {"num_rounds": 0})
    assert strategy.state.assignments == before.state.assignments
    assert not set(strategy.evaluator.placements) & set(strategy.state.assignments)
    lines = [json.loads(line) for line in (strategy.folder.path / "metrics.jsonl").open()]
    assert sorted(lines[-1]["held-out"]["by-client"]) == sorted(strategy.evaluator.placements)
    assert lines[-1]["held-out"]["by-cluster"].keys() == {
        str(z) for z in strategy.evaluator.placements.values()
    }
    held_out = {strategy.context.clients.nodes[name] for name in strategy.context.held_out}
    to_newcomers = [action for action, node in grid.sent if node in held_out]
    assert sorted(to_newcomers) == sorted(["query.describe", "train.profile", "evaluate"] * 3)
    actions = [action for action, node in grid.sent if action != "query.describe"]
    assert actions.index("train.dual") < actions.index("evaluate")
    # The clients' six profiles come before training, the newcomers' three after the evaluation.
    assert actions[:6] == ["train.profile"] * 6
    assert actions[-6:] == ["train.profile"] * 3 + ["evaluate"] * 3


def test_the_order_of_replies_changes_nothing(tmp_path):
    runs = [run_quickly(tmp_path, name=f"{s}", grid_seed=s, **LATE)[0] for s in (1, 2)]
    first, second = ((run.folder.path / "metrics.jsonl").read_bytes() for run in runs)
    assert first == second
    assert runs[0].evaluator.placements == runs[1].evaluator.placements


def test_a_profile_does_not_depend_on_when_it_is_made(tmp_path):
    """A newcomer starts from the common start, however far the clusters' models have come."""
    found = {}

    def keep(key):
        def tamper(partition, action, reply):
            if action == "train.profile":
                found[key, partition] = array_of(reply, "update")
            return reply

        return tamper

    run_quickly(tmp_path, name="late", tamper=keep("late"), **LATE | {"num_rounds": 2})
    run_quickly(tmp_path, name="early", tamper=keep("early"), **LATE | {"num_rounds": 0})
    for partition in range(9):
        np.testing.assert_array_equal(found["late", partition], found["early", partition])


def test_a_newcomer_beyond_alpha_joins_the_nearest_cluster_and_the_log_says_so(tmp_path, caplog):
    strategy, _ = run_quickly(tmp_path, **LATE | {"fusion": "entropy", "num_rounds": 0})
    strategy.algorithm._profiles.threshold = 0.0
    with caplog.at_level(logging.WARNING, logger="flwr"):
        placed = strategy.algorithm.place_held_out(1, sorted(strategy.context.held_out))
    assert placed == strategy.evaluator.placements
    for name, cluster in placed.items():
        assert f"newcomer {name} is " in caplog.text
        assert f"joins cluster {cluster}, nearest by mean, instead of being alone" in caplog.text


def test_a_faulty_newcomer_costs_itself_its_cluster(tmp_path, caplog):
    changes = LATE | {"num_rounds": 0}
    names = sorted(run_quickly(tmp_path, name="good", **changes)[0].context.held_out)

    def nan_from(*broken):
        def tamper(partition, action, reply):
            if action == "train.profile" and f"client-{partition}" in broken:
                update = np.full_like(array_of(reply, "update"), np.nan)
                return replace_array(reply, "update", update)
            return reply

        return tamper

    with caplog.at_level(logging.WARNING, logger="flwr"):
        one, _ = run_quickly(tmp_path, name="one", tamper=nan_from(names[1]), **changes)
    assert sorted(one.evaluator.placements) == [names[0], names[2]]
    assert f"profile: client {names[1]} is left out: array 'update'" in caplog.text
    every, _ = run_quickly(tmp_path, name="every", tamper=nan_from(*names), **changes)
    assert every.evaluator.placements == {}
    assert len(every.evaluator.evaluations) == 6


def test_nothing_is_kept_where_nobody_is_unseen(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=0)
    assert isinstance(strategy.algorithm, FedDAG)
    assert not hasattr(strategy, "_residents")
