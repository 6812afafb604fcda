"""Clusters part whose clients pull the shared secondary encoder different ways."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from feddag_bench import NOTHING, parts_sent, set_settings, weights
from memory_grid import TRAINING, failed, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.server import FedDAG
from feddag_flwr.algorithms.feddag.sharing import AGREEMENT_COORDINATES, Sharing
from feddag_flwr.clustering import agreement
from feddag_flwr.records import TrainReply
from feddag_flwr.settings import Settings

pytestmark = pytest.mark.integration


PULLS = {name: [1, 0, 0] for name in "abc"} | {name: [0, 1, 0] for name in "def"}


def taught(strategy, rng, noise=0.3, pulls=PULLS):
    """One round in which a, b and c pull S one way, d, e and f another."""
    replies = {}
    for name, pull in pulls.items():
        shared = strategy.algorithm._sharing.start_of(strategy.state.assignments[name])
        moved = shared.floats + np.repeat(pull, 200) + noise * rng.normal(size=600)
        replies[name] = TrainReply(
            1, {"transfer": Weights(moved.astype(np.float32))}, {"transfer": shared}, NOTHING
        )
    return replies


@pytest.mark.parametrize("teachers", ["agreeing", "all"])
def test_clusters_part_that_pull_the_secondary_encoder_different_ways(
    three_clusters, caplog, teachers
):
    set_settings(
        three_clusters,
        Settings.from_run_config({"teacher-clusters": teachers, "agreement-rounds": 3}),
    )
    three_clusters.state.teachers = ()  # before the first clustering
    grouping = SimpleNamespace(
        names=list("abcdef"),
        labels=np.repeat([0, 1], 3),
        graph=None,
        chosen=SimpleNamespace(num_clusters=2),
    )
    model = {part: Weights(np.zeros(600, np.float32)) for part in ("primary", "secondary")}
    model["classifier"] = weights(0)
    three_clusters._set_clusters(grouping, [dict(model), dict(model)])
    assert three_clusters.state.teachers == ((0, 1), (0, 1))
    rng, found = np.random.default_rng(0), []
    with caplog.at_level(logging.INFO, logger="flwr"):
        for number in range(1, 8):
            three_clusters.before_round(number, [])
            three_clusters.aggregate(number, taught(three_clusters, rng))
            found.append(three_clusters.state.teachers)
    parted = teachers == "agreeing"
    apart = ((0,), (1,)) if parted else ((0, 1), (0, 1))
    assert found == [((0, 1), (0, 1))] * 5 + [apart] * 2
    assert ("share a secondary encoder from now on: 0; 1" in caplog.text) == parted
    one, other = (each["secondary"] for each in three_clusters.state.models)
    assert one.equals(other) == (not parted)
    # Nothing is left to be measured where all have parted.
    assert (three_clusters._sharing.watch is None) == (parted or teachers == "all")


def test_what_is_sent_trained_and_written_once_clusters_have_parted(tmp_path, monkeypatch):
    """At threshold 1, in windows of two rounds, all part after round 4, rising or not."""
    monkeypatch.setattr(agreement, "RISE", 2.0)
    settings = {"agreement_threshold": 1.0, "agreement_rounds": 2, "num_clients": 12}
    sent, train_request = set(), FedDAG.train_request

    def seen(self, server_round, name):
        request = train_request(self, server_round, name)
        sent.update(request.parts)
        return request

    monkeypatch.setattr(FedDAG, "train_request", seen)
    strategy, replied = parts_sent(tmp_path, "all", num_rounds=5, **settings)
    alone, _ = parts_sent(tmp_path, "stays", num_rounds=4, **settings)
    assert strategy.state.teachers == alone.state.teachers == ((0,), (1,), (2,))
    assert sent == {"primary", "secondary", "classifier"}  # S' is S: it is not sent twice
    assert set(map(tuple, replied.values())) == {("classifier", "primary", "transfer")}
    first, *others = [model["secondary"] for model in alone.state.models]
    assert all(other.equals(first) for other in others)

    def of_cluster_0(partition, action, reply):
        member = strategy.state.assignments[f"client-{partition:02}"] == 0
        spoilt = action in TRAINING and reply.content.config_records["info"]["round"] == 5
        return failed(reply) if spoilt and not member else reply

    some, _ = run_quickly(
        tmp_path, name="some", tamper=of_cluster_0, participation=1.0, num_rounds=5, **settings
    )
    found = [model["secondary"] for model in some.state.models]
    assert found[0].equals(strategy.state.models[0]["secondary"])
    assert found[1].equals(first)
    assert found[2].equals(first)

    lines = (tmp_path / "all" / "metrics.jsonl").read_text().splitlines()
    changes = {
        n: each["teachers"] for n, each in enumerate(map(json.loads, lines)) if "teachers" in each
    }
    assert changes == {0: [[0, 1, 2]] * 3, 4: [[0], [1], [2]]}
    summary = json.loads((tmp_path / "all" / "summary.json").read_text())
    assert [each["teachers"] for each in summary["clusters"]] == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("before", "labels", "expected"),
    [
        # Clusters of the clients so far: a 0, b 1, c and d 2.
        (((0,), (1, 2), (1, 2)), [0, 1, 2, 2], ((0,), (1, 2), (1, 2))),
        (((0,), (1,), (2,)), [0, 1, 2, 2], ((0,), (1,), (2,))),
        (((0,), (1, 2), (1, 2)), [0, 1, 1, 2], ((0,), (1, 2), (1, 2))),  # members of one group
        (((0,), (1, 2), (1, 2)), [0, 0, 1, 2], ((0,), (1, 2), (1, 2))),  # 0 is of two groups now
        (((0, 1, 2),) * 3, [0, 0, 1, 1], ((0, 1),) * 2),
        (((0, 2), (), (0, 2)), [0, None, 1, 1], ((0, 1),) * 2),  # all have left cluster 1
    ],
)
def test_a_later_clustering_does_not_join_what_has_parted(three_clusters, before, labels, expected):
    """Though S may be the same yet: it has been trained by nobody since."""
    set_settings(three_clusters, Settings())
    three_clusters.state.teachers = before
    found = {n: z for n, z in zip("abcd", labels, strict=True) if z is not None}
    grouping = SimpleNamespace(names=list(found), labels=np.array(list(found.values())))
    models = [{"secondary": weights(1)} for _ in expected]
    three_clusters._set_clusters(grouping, models)
    assert three_clusters.state.teachers == expected
    # Who still shares is watched on.
    assert (three_clusters._sharing.watch is not None) == any(len(row) > 1 for row in expected)


@pytest.mark.parametrize("factor", [0.5, 1, 1.1, 3])
def test_agreement_is_told_by_some_coordinates_others_each_round(factor):
    sharing, size = Sharing(Settings()), int(factor * AGREEMENT_COORDINATES)
    first, again, later = (sharing._coordinates(size, n) for n in (1, 1, 2))
    assert first.size == min(size, AGREEMENT_COORDINATES)
    assert (np.diff(first) > 0).all()
    assert first[-1] < size
    assert (first == again).all()
    assert (first == later).all() == (factor <= 1)


TOO_FEW = "cluster 1: too few of its clients train in one round"


AT_ODDS = (
    "cluster 1: its clients do not agree with each other on the secondary encoder (against the"
)


UNSURE = "agrees less than agreement-threshold with some"


@pytest.mark.parametrize(
    ("labels", "others", "noise", "told"),
    [
        ([0, 0, 0, 0, 0, 0], {}, 0.3, []),
        ([0, 0, 0, 1, 1, 1], {}, 0.3, []),  # they part
        # Nobody knows how far what two clients agree on is chance.
        ([0, 0, 0, 0, 1, 1], {"d": [1, 0, 0]}, 0.3, [TOO_FEW]),
        # One client of three is enough to hide what the others agree on.
        ([0, 0, 0, 1, 1, 1], {"f": [0, -1, 0]}, 0.3, [AT_ODDS]),
        ([0, 0, 0, 1, 1, 1], {}, 5.0, [UNSURE]),
    ],
)
def test_a_cluster_that_cannot_part_is_told_once(
    three_clusters, caplog, labels, others, noise, told
):
    set_settings(three_clusters, Settings.from_run_config({"agreement-rounds": 2}))
    three_clusters.state.teachers = ()
    grouping = SimpleNamespace(names=list("abcdef"), labels=np.array(labels))
    model = {part: Weights(np.zeros(600, np.float32)) for part in ("primary", "secondary")}
    model["classifier"] = weights(0)
    three_clusters._set_clusters(grouping, [dict(model) for _ in set(labels)])
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for number in range(1, 10):
            three_clusters.before_round(number, [])
            three_clusters.aggregate(number, taught(three_clusters, rng, noise, PULLS | others))
            memory = three_clusters._sharing.state_dict()
            three_clusters._sharing.load_state_dict(three_clusters.state, memory)
    logged = [message for message in (TOO_FEW, AT_ODDS, UNSURE) if message in caplog.text]
    assert len(logged) == len(told)
    for message in told:
        assert caplog.text.count(message) == 1


@pytest.mark.parametrize(
    ("rounds", "schedule", "begun", "told"),
    [
        # To part after the last round that trains S would change nothing.
        (16, "both", 0, True), (17, "both", 0, False), (17, "both", 1, True),
        (50, "2:1", 0, True), (51, "2:1", 0, False), (51, "2:1", 2, False), (51, "2:1", 3, True),
    ],
)  # fmt: skip
def test_a_run_too_short_for_clusters_to_part_says_so(
    three_clusters, caplog, rounds, schedule, begun, told
):
    sharing = Sharing(Settings.from_run_config({"num-rounds": rounds, "schedule": schedule}))
    state = three_clusters.state
    state.teachers, state.server_round = ((0, 1, 2),) * 3, begun
    with caplog.at_level(logging.INFO, logger="flwr"):
        sharing.begin(state)
    assert ("go on sharing secondary encoders to the end" in caplog.text) == told
    assert sharing.watch is not None
