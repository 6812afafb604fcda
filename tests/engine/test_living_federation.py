"""Clients that come, go, return and change while a federation trains (A.8, A.9)."""

import json
import logging

import numpy as np
import pytest
from memory_grid import (
    TRAINING,
    MemoryGrid,
    failed,
    let_come_later,
    quick_settings,
    replace_array,
    run_quickly,
)

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.engine.registration import FederationError
from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.simulation.grid import FIRST_NODE, partitions

pytestmark = pytest.mark.integration

CLIENTS = 9
LATE = {
    "num_clients": CLIENTS,
    "newcomer_share": 0.34,
    "newcomer_round": 2,
    "num_rounds": 3,
    "participation": 1.0,
    "evaluate_every": 3,
    "warmup_epochs": 1,
    "secondary": "none",
}


def lines(strategy):
    with (strategy.folder.path / "metrics.jsonl").open() as stream:
        return [json.loads(line) for line in stream]


def groups_of(strategy, names):
    """Cluster of each true group, of the clients named; each group must have one cluster."""
    found = {}
    for name in names:
        found.setdefault(strategy.context.true_groups[name], set()).add(
            strategy.state.assignments[name]
        )
    return found


# -- newcomers -------------------------------------------------------------------------------------


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


# -- a full house is not needed --------------------------------------------------------------------


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


# -- identity --------------------------------------------------------------------------------------


def renamed_grid(settings, config):
    """A grid with one node more, which is the last, is not connected yet and has `config`."""
    configs = partitions(settings, settings.run.num_clients)
    grid = MemoryGrid(settings, node_configs=[*configs, config])
    extra = max(grid.contexts)
    grid.connected.discard(extra)
    return grid, extra


@pytest.mark.parametrize("identity", ["name", "node"])
@pytest.mark.parametrize("first_has_left", [False, True])
def test_a_second_node_of_a_name(tmp_path, caplog, identity, first_has_left):
    changes = {"num_rounds": 3, "participation": 1.0, "evaluate_every": 3, "identity": identity}
    changes |= {"secondary": "none"}
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **changes)
    config = {"partition-id": 3, "num-partitions": settings.run.num_clients}
    grid, second = renamed_grid(settings, config)
    first = FIRST_NODE + 3

    def swap(partition, action, reply):
        if action in TRAINING:
            grid.connected.add(second)
            if first_has_left:
                grid.connected.discard(first)
        return reply

    grid.tamper = swap
    strategy = build_strategy(settings, RunFolder(settings))
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.start(grid)
    trained = [node for action, node in grid.sent if action in TRAINING]
    if first_has_left and identity == "name":
        assert f"client client-3 is on another node now: {second}, not {first}" in caplog.text
        assert trained.count(second) == 2  # found in round 1, trained in 2 and 3
        assert strategy.context.clients.nodes["client-3"] == second
    else:
        assert second not in trained
        assert strategy.context.clients.nodes["client-3"] == first
        assert "name 'client-3' belongs to another node already" in caplog.text
        assert "the server leaves this client out: client 'client-3': name" in caplog.text
    # Either way the client keeps its cluster and nobody else is touched.
    assert all("moved" not in line for line in lines(strategy)[1:])


def own_data_run(tmp_path, classes, shape, caplog):
    """Two good clients with own data; a third with `classes` and images of `shape` comes later."""
    rng = np.random.default_rng(1)
    for name, names, size in (("a", "xyz", (8, 8)), ("b", "xyz", (8, 8)), ("c", classes, shape)):
        labels = np.arange(30) % len(names)
        images = rng.integers(0, 255, (30, *size), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels, class_names=list(names))
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", num_clients=2, client_groups=1, num_rounds=3,
        scenario="own", dataset="npz", participation=1.0,
    )  # fmt: skip
    configs = [{"data-path": str(tmp_path / f"{name}.npz")} for name in "abc"]
    grid = MemoryGrid(settings, node_configs=configs)
    late = max(grid.contexts)
    grid.connected.discard(late)

    def come(partition, action, reply):
        if action in TRAINING:
            grid.connected.add(late)
        return reply

    grid.tamper = come
    strategy = build_strategy(settings, RunFolder(settings))
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.start(grid)
    return strategy


@pytest.mark.parametrize(
    ("classes", "shape", "reason"),
    [
        ("xq", (8, 8), "class 'q' is unknown here; the federation has x, y, z"),
        ("xy", (8, 8, 2), "samples are 8 x 8 with 2 channel(s), those of the federation 8"),
    ],
)
def test_a_newcomer_that_does_not_fit_is_told_why(tmp_path, caplog, classes, shape, reason):
    strategy = own_data_run(tmp_path, classes, shape, caplog)
    assert sorted(strategy.state.clients) == ["a", "b"]
    assert f"client on node 103 is left out: client 'c': {reason}" in caplog.text
    assert f"the server leaves this client out: client 'c': {reason}" in caplog.text


@pytest.mark.parametrize("shape", [(8, 8), (9, 10)])
def test_a_newcomer_with_fewer_classes_and_images_of_any_size_fits(tmp_path, caplog, shape):
    strategy = own_data_run(tmp_path, "zy", shape, caplog)
    assert sorted(strategy.state.assignments) == ["a", "b", "c"]


# -- drift -----------------------------------------------------------------------------------------

DRIFT = LATE | {
    "newcomer_share": 0.0,
    "drift_share": 0.67,
    "drift_round": 2,
    "num_rounds": 4,
    "evaluate_every": 2,
    "recluster_share": 0.0,
}


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

    changes = DRIFT | {"drift_share": 0.0, "num_rounds": 6}
    strategy, grid = run_quickly(tmp_path, tamper=tamper, **changes)
    profiled = [node for action, node in grid.sent if action == "train.profile"]
    assert profiled.count(FIRST_NODE + 3) == 4  # at the start, then in rounds 2, 4 and 6
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


# -- growth ----------------------------------------------------------------------------------------


def test_growth_clusters_anew_and_leaves_everything_where_nothing_has_changed(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, **LATE | {"recluster_share": 0.3})
    assert caplog.text.count("clustered anew: nobody moves") == 1
    quiet, _ = run_quickly(tmp_path, name="quiet", **LATE | {"recluster_share": 0.0})
    assert strategy.state.assignments == quiet.state.assignments
    for one, two in zip(strategy.state.models, quiet.state.models, strict=True):
        assert all((one[part].floats == two[part].floats).all() for part in one)


def test_a_group_that_comes_late_gets_a_cluster_of_its_own(tmp_path):
    """Clients of a third group join two: placed with the nearest at first, then clustered anew."""
    first, _ = run_quickly(tmp_path, name="all", **LATE | {"newcomer_share": 0.0, "num_rounds": 0})
    third = [name for name, group in first.context.true_groups.items() if group == 2]
    settings = quick_settings(
        run_dir=str(tmp_path),
        run_name="late",
        **LATE | {"newcomer_share": 0.0, "num_rounds": 4, "recluster_share": 0.3},
        min_clients=2,
    )
    grid = MemoryGrid(settings)
    late = {FIRST_NODE + int(name.removeprefix("client-")) for name in third}
    grid.connected -= late

    def come(partition, action, reply):
        if action in TRAINING:
            grid.connected |= late
        return reply

    grid.tamper = come
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    assert strategy.state.num_clusters == 3
    assert lines(strategy)[0]["clusters"] == 2
    groups = groups_of(strategy, strategy.state.assignments)
    assert all(len(clusters) == 1 for clusters in groups.values())
    # The two old clusters keep their numbers.
    for name, cluster in lines(strategy)[0]["moved"].items():
        assert strategy.state.assignments[name] == cluster


def test_a_new_cluster_starts_from_the_mean_of_its_members_models(tmp_path):
    strategy, _ = run_quickly(tmp_path, **LATE | {"newcomer_share": 0.0, "num_rounds": 1})
    names = sorted(strategy.state.clients)[:3]
    strategy.state.assignments |= dict(zip(names, (0, 1, 1), strict=True))
    for cluster, model in enumerate(strategy.state.models):
        for part in model:
            model[part] = Weights(np.full(4, float(cluster), np.float32))

    class OneCluster:
        def clusters(self):
            return [names]

    (model,) = strategy.algorithm._inherited_models(OneCluster())
    sizes = [strategy.state.clients[name].train_samples for name in names]
    expected = (sizes[1] + sizes[2]) / sum(sizes)
    np.testing.assert_allclose(model["primary"].floats, expected, rtol=1e-6)
