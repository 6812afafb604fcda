"""A federation goes on with those who are there."""

import logging

import pytest
from living import CLIENTS, DRIFT, LATE, lines, renamed_grid
from memory_grid import (
    TRAINING,
    MemoryGrid,
    failed,
    let_come_later,
    quick_settings,
    run_quickly,
)

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.engine.registration import FederationError
from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.simulation.grid import FIRST_NODE, partitions

pytestmark = pytest.mark.integration


def test_a_run_begins_with_min_clients_and_takes_the_others_later(tmp_path, caplog):
    settings = quick_settings(
        run_dir=str(tmp_path),
        run_name="run",
        min_clients=6,
        **LATE | {"newcomer_share": 0.0, "num_rounds": 1},
    )
    grid = MemoryGrid(settings)
    let_come_later(grid, {FIRST_NODE + partition for partition in (1, 4, 7)})
    strategy = build_strategy(settings, RunFolder(settings))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy.start(grid)
    assert "6 of 9 nodes came: begin" in caplog.text
    assert sorted(lines(strategy)[1]["placed"]) == ["client-1", "client-4", "client-7"]


def test_a_share_that_holds_out_nobody_of_those_who_came_is_told(tmp_path, caplog):
    share = {"held_out_share": 0.2, "num_clients": 3, "min_clients": 2, "num_rounds": 0}
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, nodes=2, algorithm="fedavg", **share)
    assert strategy.context.held_out == {}
    assert "held-out-share = 0.2: 0 of the 2 clients here" in caplog.text


def test_a_profile_that_is_missing_at_the_start_is_made_good_later(tmp_path):
    failures = []

    def tamper(partition, action, reply):
        if action == "train.profile" and partition == 4 and not failures:
            failures.append(partition)
            return failed(reply)
        return reply

    strategy, _ = run_quickly(tmp_path, tamper=tamper, num_rounds=3, participation=1.0)
    log = lines(strategy)
    assert "client-4" not in log[1]["sampled"]
    assert list(log[1]["placed"]) == ["client-4"]
    assert "client-4" in log[2]["sampled"]


def test_a_round_waits_for_somebody_and_then_the_run_ends_resumable(tmp_path):
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", num_rounds=3)
    grid = MemoryGrid(settings)

    def leave(partition, action, reply):
        if action == "evaluate":
            grid.connected.clear()
        return reply

    grid.tamper = leave
    strategy = build_strategy(settings, RunFolder(settings))
    with pytest.raises(FederationError, match=r"no client was there for 0.2 s .* resume = '.*run'"):
        strategy.start(grid)
    assert strategy.state.server_round == 2


def test_rounds_are_not_spent_on_strangers(tmp_path):
    """A node that does not fit is no reason to train without anybody."""
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", algorithm="fedavg", num_rounds=40, join_timeout=0.3
    )
    stranger = {"partition-id": 99, "num-partitions": settings.run.num_clients}
    grid, last = renamed_grid(settings, stranger)

    def leave(partition, action, reply):
        if action in TRAINING:
            grid.connected = {last}
        return reply

    grid.tamper = leave
    strategy = build_strategy(settings, RunFolder(settings))
    with pytest.raises(FederationError, match="no client was there"):
        strategy.start(grid)
    assert strategy.state.server_round == 1


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_rounds_are_drawn_among_those_who_are_there(tmp_path, algorithm):
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", algorithm=algorithm, num_clusters=2, num_rounds=2
    )
    grid = MemoryGrid(settings)
    absent = {FIRST_NODE + 1, FIRST_NODE + 4}

    def leave(partition, action, reply):
        if action in TRAINING:
            grid.connected -= absent
        return reply

    grid.tamper = leave
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    for line in lines(strategy)[2:]:
        assert not {"client-1", "client-4"} & set(line["sampled"])
        assert not line["failed"]
        assert line["sampled"]


def test_nobody_is_made_to_pause_while_no_round_passes(tmp_path):
    """All have drifted and no profile comes at first: the run does not end for want of clients."""
    failures = []

    def tamper(partition, action, reply):
        if action == "train.profile" and int(reply.metadata.group_id) == 3 and len(failures) < 9:
            failures.append(partition)
            return failed(reply)
        return reply

    strategy, _ = run_quickly(tmp_path, tamper=tamper, **DRIFT | {"drift_share": 1.0})
    assert len(failures) == CLIENTS
    assert len(lines(strategy)[3]["placed"]) == CLIENTS
    assert strategy.state.server_round == 4


def test_nodes_that_came_in_vain_and_left_take_no_room(tmp_path):
    """Without keys each start of a node draws a new id."""
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", algorithm="fedavg", num_rounds=12
    )
    stranger = {"partition-id": 3, "num-partitions": settings.run.num_clients}
    configs = partitions(settings, settings.run.num_clients)
    grid = MemoryGrid(settings, node_configs=[*configs, *([stranger] * 12)])
    members, strangers = set(list(grid.contexts)[:6]), list(grid.contexts)[6:]
    grid.connected = members

    def replace_stranger(partition, action, reply):
        if action in TRAINING and strangers:
            grid.connected = members | {strangers.pop()}
        return reply

    grid.tamper = replace_stranger
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    assert not strangers
    assert len(strategy.joins.delays()) == 1


def test_training_goes_out_before_questions_and_profiles_have_their_own_time(tmp_path):
    settings = quick_settings(
        run_dir=str(tmp_path),
        run_name="run",
        **LATE | {"num_rounds": 2},
        round_timeout=7.0,
        profile_timeout=999.0,
    )
    grid = MemoryGrid(settings)
    times = []
    push = grid.push_messages

    def watched(messages):
        messages = list(messages)
        times.extend(
            (each.metadata.group_id, each.metadata.message_type, each.metadata.ttl)
            for each in messages
        )
        return push(messages)

    grid.push_messages = watched
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    second = [(kind, ttl) for number, kind, ttl in times if number == "2"]
    kinds = [kind for kind, _ in second]
    assert kinds.index("train.dual") < kinds.index("query.describe") < kinds.index("train.profile")
    assert {ttl for kind, ttl in second if kind == "train.profile"} == {999.0}
    assert {ttl for kind, ttl in second if kind in TRAINING} == {7.0}
    assert {ttl for kind, ttl in second if kind == "query.describe"} == {0.2}


def test_one_client_cannot_make_a_federation_of_its_own_classes(tmp_path, caplog):
    def tamper(partition, action, reply):
        if action == "query.describe" and partition == 3:
            names = [f"bogus-{number:04d}" for number in range(1000)]
            reply.content.config_records["info"]["class-names"] = names
        return reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, algorithm="fedavg")
    assert "client client-3 is left out: class 'bogus-" in caplog.text
    assert len(strategy.state.clients) == 5
