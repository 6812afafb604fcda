"""Clients that come while a federation trains are placed, and nobody else moves (A.8)."""

import logging

import pytest
from living import CLIENTS, LATE, groups_of, lines
from memory_grid import (
    failed,
    run_quickly,
)

from feddag_flwr.algorithm_names import ALGORITHMS

pytestmark = pytest.mark.integration


def test_newcomers_are_profiled_within_a_round_and_placed_where_they_belong(tmp_path):
    strategy, grid = run_quickly(tmp_path, **LATE)
    log = lines(strategy)
    newcomers = log[2]["placed"]
    assert len(newcomers) == 3
    assert all("placed" not in line for line in (log[0], log[1], log[3]))
    assert sorted(log[1]["sampled"]) == sorted(set(strategy.state.clients) - newcomers.keys())
    assert set(log[3]["sampled"]) == set(strategy.state.clients)
    members = set(strategy.state.assignments) - newcomers.keys()
    groups = groups_of(strategy, members)
    assert all(len(clusters) == 1 for clusters in groups.values())
    for name, cluster in newcomers.items():
        assert groups[strategy.context.true_groups[name]] == {cluster}
    # Nobody else moved: the only clients that ever changed their cluster are the newcomers.
    assert set(log[0]["moved"]) == members
    assert log[2]["moved"] == newcomers
    assert not any("moved" in line for line in (log[1], log[3]))
    # One profile each, in the round's own exchange, and nobody was profiled twice.
    profiled = [node for action, node in grid.sent if action == "train.profile"]
    assert len(profiled) == len(set(profiled)) == CLIENTS


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_takes_newcomers_or_tells_them_why_not(tmp_path, algorithm, caplog):
    changes = LATE | {"num_rounds": 2, "evaluate_every": 2, "algorithm": algorithm}
    changes |= {"num_clients": 6, "newcomer_share": 0.5, "client_groups": 2}
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, **changes, num_clusters=2)
    late = lines(strategy)[2].get("placed", {})
    if strategy.algorithm.admits_newcomers:
        assert len(late) == 3
        assert lines(strategy)[-1]["all"]["by-client"].keys() > late.keys()
    else:
        assert not late
        assert "the server leaves this client out" in caplog.text
        assert f"{type(strategy.algorithm).__name__} takes no newcomers" in caplog.text


def test_the_order_of_replies_changes_nothing_for_newcomers(tmp_path):
    changes = LATE | {"observers": "round-log, checkpoints, closing-table"}
    one, _ = run_quickly(tmp_path, name="one", grid_seed=1, **changes)
    two, _ = run_quickly(tmp_path, name="two", grid_seed=2, **changes)
    for path in ("metrics.jsonl", "summary.json", "checkpoints/round-000003/manifest.json"):
        assert (one.folder.path / path).read_bytes() == (two.folder.path / path).read_bytes(), path


def test_a_newcomer_that_fails_is_asked_again_with_growing_pauses(tmp_path):
    asked = []

    def tamper(partition, action, reply):
        if action == "train.profile" and len(asked) < 3 and partition == late:
            asked.append(action)
            return failed(reply)
        return reply

    quiet, _ = run_quickly(tmp_path, name="quiet", **LATE | {"num_rounds": 2})
    late = int(min(lines(quiet)[2]["placed"]).removeprefix("client-"))
    strategy, _ = run_quickly(
        tmp_path, name="faulty", tamper=tamper, **LATE | {"num_rounds": 9, "evaluate_every": 9}
    )
    rounds = [
        n for n, line in enumerate(lines(strategy)) if f"client-{late}" in line.get("placed", {})
    ]
    # Asked in rounds 2, 3, 5 and 9: after pauses of 1, 2 and 4 rounds.
    assert rounds == [9]
    assert f"client-{late}" in strategy.state.assignments


def test_many_join_at_once(tmp_path):
    changes = LATE | {"num_clients": 20, "newcomer_share": 0.8, "recluster_share": 0.0}
    changes |= {"num_rounds": 2}
    strategy, grid = run_quickly(tmp_path, **changes, max_in_flight=5)
    assert len(lines(strategy)[2]["placed"]) == 16
    assert len(strategy.state.assignments) == 20
    assert grid.most_under_way == 5
