import functools
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from algorithm_bench import Bench
from flwr.app import Array
from judgements import evaluation
from memory_grid import TRAINING, array_of, failed, run_quickly

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.profiling import DiskBackedWeights
from feddag_flwr.algorithms.feddag.server import FedDAG
from feddag_flwr.algorithms.feddag.sharing import AGREEMENT_COORDINATES, Sharing
from feddag_flwr.clustering import agreement
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.clustering.threshold import threshold_grid
from feddag_flwr.engine.registration import FederationError
from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import TrainReply
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState

pytestmark = pytest.mark.integration

NOTHING = evaluation([0, 0], [0, 0])


def weights(*floats):
    return Weights(np.array(floats, np.float32))


GRAPH = {"teacher_clusters": "graph", "classifier_training": "joint"}


@pytest.fixture
def three_clusters(tmp_path):
    """Clusters 0, 1, 2 with secondary encoders 10, 20, 30; 0 and 1 learn from 2, 2 from 0."""
    settings = Settings.from_run_config({"run-dir": str(tmp_path), "preset": "paper"})
    strategy = Bench(FedDAG, settings)
    names = ["a", "b", "c", "d"]
    strategy.state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    models = [
        {"primary": weights(z), "secondary": weights(10 * (z + 1)), "classifier": weights(-z)}
        for z in range(3)
    ]
    strategy.state.set_clusters(names, [0, 1, 2, 2], models, [[2], [2], [0]])
    return strategy


def set_settings(strategy, settings):
    strategy.context.settings = strategy.algorithm.settings = settings
    strategy.algorithm._sharing = Sharing(settings)


def test_a_source_receives_the_mean_of_its_learners_secondary_encoders(three_clusters):
    # Learners of 2 are 0 and 1: (10 + 20) / 2; the only learner of 0 is 2; nobody learns from 1.
    both = ("primary", "secondary")
    three_clusters.before_round(1, [])
    sent = {name: three_clusters.train_request(1, name) for name in "abc"}
    assert sent["c"].parts["transfer"].floats.tolist() == [15]
    assert sent["a"].parts["transfer"].floats.tolist() == [30]
    assert "transfer" not in sent["b"].parts
    assert sent["c"].phases == both
    assert sent["b"].phases == ("primary",)


def test_primary_and_secondary_aggregation_by_hand(three_clusters):
    replies = {
        # c and d of cluster 2: P (1 * 4 + 3 * 8) / 4 = 7; S' (1 * 16 + 3 * 20) / 4 = 19
        "c": TrainReply(
            1,
            {"primary": weights(4), "classifier": weights(1), "transfer": weights(16)},
            {},
            NOTHING,
        ),
        "d": TrainReply(
            3,
            {"primary": weights(8), "classifier": weights(1), "transfer": weights(20)},
            {},
            NOTHING,
        ),
        # a of cluster 0: S' = 33, sent as 30
        "a": TrainReply(
            5,
            {"primary": weights(9), "classifier": weights(2), "transfer": weights(33)},
            {},
            NOTHING,
        ),
    }
    three_clusters.before_round(1, [])
    three_clusters.aggregate(1, {name: replies[name] for name in sorted(replies)})
    models = three_clusters.state.models
    assert [model["primary"].floats.tolist() for model in models] == [[9], [1], [7]]
    assert [model["classifier"].floats.tolist() for model in models] == [[2], [-1], [1]]
    # Learners 0 and 1 of source 2 get 19 - 15 = 4 each, learner 2 of source 0 gets 33 - 30 = 3.
    assert [model["secondary"].floats.tolist() for model in models] == [[14], [24], [33]]


def test_a_learner_of_two_teachers_gets_both_updates(three_clusters):
    three_clusters.state.teachers = ((1, 2), (), ())
    # Both teachers train S_0 = 10 itself: +1 from cluster 1 and +5 from cluster 2.
    three_clusters.before_round(1, [])
    three_clusters.aggregate(
        1,
        {
            "b": TrainReply(1, {"transfer": weights(11)}, {}, NOTHING),
            "c": TrainReply(1, {"transfer": weights(15)}, {}, NOTHING),
        },
    )
    models = three_clusters.state.models
    assert models[0]["secondary"].floats.tolist() == [16]
    assert models[1]["secondary"].floats.tolist() == [20]
    assert models[0]["primary"].floats.tolist() == [0]


def test_the_updates_of_several_teachers_are_averaged(three_clusters):
    set_settings(three_clusters, Settings())
    three_clusters.state.teachers = ((0, 1, 2), (0, 1, 2), (0, 1, 2))
    # All teachers start from S' = (10 + 20 + 30) / 3 = 20. Cluster 0 does not reply, 1 sends
    # 20 + 3, 2 sends (1 * 21 + 3 * 29) / 4 = 20 + 7: each S moves by (3 + 7) / 2 = 5.
    three_clusters.before_round(1, [])
    replies = {"b": (9, 23), "c": (1, 21), "d": (3, 29)}
    three_clusters.aggregate(
        1,
        {
            name: TrainReply(count, {"transfer": weights(value)}, {}, NOTHING)
            for name, (count, value) in replies.items()
        },
    )
    models = three_clusters.state.models
    assert [model["secondary"].floats.tolist() for model in models] == [[15], [25], [35]]


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


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("both", "bbbbbb"), ("1:1", "pspsps"), ("2:1", "ppspps"), ("5:1", "ppppps")],
)
def test_schedules(three_clusters, schedule, expected):
    settings = Settings.from_run_config({"schedule": schedule})
    set_settings(three_clusters, settings)
    letters = {("primary",): "p", ("secondary",): "s", ("primary", "secondary"): "b"}
    found = [letters[three_clusters.phases_of(r, "c")] for r in range(1, 7)]
    assert "".join(found) == expected
    assert three_clusters.phases_of(6, "b") == (() if expected[5] == "s" else ("primary",))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0.5, [0.5, 1.0]), (0.25, [0.25, 0.5, 0.75, 1.0]), (0.3, [0.3, 0.6, 0.9]), (0.0, None)],
)
def test_threshold_grid(step, expected):
    assert threshold_grid(step) == expected


def test_the_default_grid_is_that_of_the_paper():
    grid = threshold_grid(0.05)
    assert len(grid) == 20
    assert grid[0] == 0.05
    assert grid[-1] == 1.0


def test_primary_encoders_start_as_the_weighted_mean_of_the_warmed_up_ones(tmp_path):
    encoders, counts = {}, {}

    def tamper(partition, action, reply):
        if action == "train.profile":
            encoders[f"client-{partition}"] = array_of(reply, "encoder.floats").astype(float)
            counts[f"client-{partition}"] = array_of(reply, "counts").sum()
        return reply

    strategy, _ = run_quickly(tmp_path, tamper=tamper, num_rounds=0)
    assert strategy.state.num_clusters == 3
    for cluster, model in enumerate(strategy.state.models):
        members = [n for n, z in strategy.state.assignments.items() if z == cluster]
        expected = np.average(
            [encoders[name] for name in members], axis=0, weights=[counts[n] for n in members]
        )
        np.testing.assert_allclose(model["primary"].floats, expected, atol=1e-7)
    everybody = np.average(
        [encoders[name] for name in encoders], axis=0, weights=[counts[n] for n in encoders]
    )
    first = strategy.state.models[0]
    np.testing.assert_allclose(first["secondary"].floats, everybody, atol=1e-7)
    for model in strategy.state.models[1:]:
        assert (model["secondary"].floats == first["secondary"].floats).all()
        assert (model["classifier"].floats == first["classifier"].floats).all()


def test_secondary_encoders_can_start_at_random(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=0, secondary_start="random")
    start = get_parts(strategy.context.initial_model(dual=True))["secondary"]
    assert all(model["secondary"].equals(start) for model in strategy.state.models)


def test_random_initialisation_starts_all_clusters_alike(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=0, initialisation="random", diversity=0.1)
    one, two = strategy.state.models[:2]
    assert (one["primary"].floats == two["primary"].floats).all()
    assert (one["primary"].floats != one["secondary"].floats).any()


def parts_sent(tmp_path, name, **changes):
    seen = {}

    def tamper(partition, action, reply):
        if action in TRAINING:
            info = reply.content.config_records["info"]
            seen.setdefault((info["round"], partition), sorted(info["parts"]))
        return reply

    strategy, _ = run_quickly(tmp_path, name=name, tamper=tamper, participation=1.0, **changes)
    return strategy, seen


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
