import logging
from types import SimpleNamespace

import numpy as np
import pytest
from judgements import evaluation

from feddag_flwr.aggregation import Weights, mean, shift, weighted_mean
from feddag_flwr.aggregators.mean import Mean
from feddag_flwr.aggregators.median import Median
from feddag_flwr.algorithms.feddag import sharing as module
from feddag_flwr.algorithms.feddag.sharing import Sharing
from feddag_flwr.records import TrainReply
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState

NOTHING = evaluation([0, 0], [0, 0])


def drawn(rng):
    return Weights(
        rng.normal(size=40).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
        rng.integers(0, 9, 2),
    )


def floats(*values):
    return Weights(np.array(values, np.float32))


def federation(assignments, teachers, secondaries):
    """Clients a, b, .. in clusters that have nothing but secondary encoders."""
    names = [chr(ord("a") + place) for place in range(len(assignments))]
    state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    models = [{"secondary": secondary} for secondary in secondaries]
    state.set_clusters(names, assignments, models, teachers)
    return state


def replied(values, starts=None, samples=None):
    return {
        name: TrainReply(
            (samples or {}).get(name, 1),
            {"transfer": weights},
            {"transfer": starts[name]} if starts else {},
            NOTHING,
        )
        for name, weights in values.items()
    }


def one_by_one(state, replies, combine):
    """Each S' and each new S by itself, as Sec. 4 and Eq. 21 (or the mean) have it."""
    starts = {
        source: mean([state.models[z]["secondary"] for z in state.learners(source)])
        for source in range(state.num_clusters)
        if state.learners(source)
    }
    trained = {}
    for source in starts:
        its = [reply for name, reply in replies.items() if state.assignments[name] == source]
        if its:
            trained[source] = weighted_mean(
                [reply.parts["transfer"] for reply in its], [reply.samples for reply in its]
            )
    found = {}
    for learner, row in enumerate(state.teachers):
        its = [source for source in trained if source in row]
        secondary = state.models[learner]["secondary"]
        if its and combine == "mean":
            start = mean([starts[source] for source in its])
            found[learner] = shift(secondary, mean([trained[source] for source in its]), start)
        elif its:
            for source in its:
                secondary = shift(secondary, trained[source], starts[source])
            found[learner] = secondary
    return starts, found


def bits(weights):
    return [getattr(weights, kind).tobytes() for kind in ("floats", "buffers", "integers")]


GROUPS = [[0, 1, 2], [0, 1, 2], [0, 1, 2], [3], [4, 5], [4, 5]]
GRAPH = [[1, 2], [0, 2], [0, 1], [1, 2], [], [1, 2]]


@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("teachers", [GROUPS, GRAPH])
@pytest.mark.parametrize("replying", ["abcdefgh", "bdh", "e"])
@pytest.mark.parametrize("alike", [True, False])
def test_what_is_computed_once_a_group_is_what_each_would_have(combine, teachers, replying, alike):
    """To the bit, whether the clusters of a group have one S, or S that are only near."""
    rng = np.random.default_rng(0)
    secondaries = [drawn(rng) for _ in GROUPS]
    if alike:
        secondaries = [secondaries[row[0]] for row in GROUPS]
    state = federation([0, 1, 2, 3, 4, 5, 2, 0], teachers, secondaries)
    replies = replied({name: drawn(rng) for name in replying}, samples={"a": 3, "h": 7})
    shared = Sharing(
        Settings.from_run_config({"teacher-clusters": "all", "combine-teachers": combine})
    )
    shared.before_round(state)
    learned = shared.learned(state, replies, Mean())
    starts, expected = one_by_one(state, replies, combine)
    assert {z: bits(shared.start_of(z)) for z in starts} == {
        z: bits(start) for z, start in starts.items()
    }
    assert {z: bits(each) for z, each in learned.items()} == {
        z: bits(each) for z, each in expected.items()
    }


@pytest.mark.parametrize("combine", ["mean", "sum"])
def test_means_and_sums_are_computed_once_a_group(monkeypatch, combine):
    taken = {"mean": 0, "shift": 0}

    def counted(name, function):
        def call(*args):
            taken[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(module, "mean", counted("mean", mean))
    monkeypatch.setattr(module, "shift", counted("shift", shift))
    rng = np.random.default_rng(0)
    one, other = drawn(rng), drawn(rng)
    twin = Weights(one.floats.copy(), one.buffers.copy(), one.integers.copy())  # as after a resume
    teachers = [[0, 1, 2, 3]] * 4 + [[4, 5]] * 2
    state = federation([0, 1, 2, 3, 4, 5], teachers, [one, twin, one, twin, other, other])
    shared = Sharing(
        Settings.from_run_config({"teacher-clusters": "all", "combine-teachers": combine})
    )
    shared.before_round(state)
    assert taken == {"mean": 2, "shift": 0}
    assert shared.start_of(0) is shared.start_of(3)
    learned = shared.learned(state, replied({name: drawn(rng) for name in "abcdef"}), Mean())
    # Two groups: of each the mean of the starts (the aggregator's own counts apart), or a shift a
    # source.
    assert taken == ({"mean": 4, "shift": 2} if combine == "mean" else {"mean": 2, "shift": 6})
    assert [learned[z] is learned[0] for z in range(6)] == [True] * 4 + [False] * 2
    assert learned[5] is learned[4]


ONE_WAY, OTHER_WAY = [1, 0, 0], [0, 1, 0]


def watched(assignments, rounds=2):
    """Clusters that all share one S, and the sharing that watches whether they agree on it."""
    count = max(assignments) + 1
    state = federation(
        assignments, [range(count)] * count, [Weights(np.zeros(600, np.float32))] * count
    )
    shared = Sharing(Settings.from_run_config({"agreement-rounds": rounds}))
    shared.begin(state)
    return state, shared


def train(state, shared, pulls, rng, noise=0.3):
    """One round, in which each of some clients pulls S its way."""
    shared.before_round(state)
    trained, starts = {}, {}
    for name, pull in pulls.items():
        start = starts[name] = shared.start_of(state.assignments[name])
        moved = start.floats + np.repeat(pull, 200) + noise * rng.normal(size=600)
        trained[name] = Weights(moved.astype(np.float32))
    shared.part(state, replied(trained, starts))


NEVER_MET = "never trained in one round with cluster"
UNSURE = "agrees less than agreement-threshold with some"


@pytest.mark.parametrize(
    ("both", "told"),
    [
        ("", {"cluster 0: never trained in one round with cluster 1, 2 ",
              "cluster 1: never trained in one round with cluster 0, 2 ",
              "cluster 2: never trained in one round with cluster 0, 1 "}),
        ("ghi", {"cluster 0: never trained in one round with cluster 1 ",
                 "cluster 1: never trained in one round with cluster 0 "}),
        ("abcdefghi", set()),
    ],
)  # fmt: skip
def test_clusters_that_never_met_are_told_so(caplog, both, told):
    """Though they pull the same way: nothing says that they agree less than they should."""
    state, shared = watched([0, 0, 0, 1, 1, 1, 2, 2, 2], rounds=3)
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for turn in ["abc", "def", "ghi"] * 4:
            train(state, shared, dict.fromkeys(sorted({*turn, *both}), ONE_WAY), rng)
    messages = [record.getMessage() for record in caplog.records]
    assert {each.partition("in the last agreement-rounds = 3")[0] for each in messages} == told
    assert len(messages) == len(told)
    assert state.teachers == ((0, 1, 2),) * 3


def test_clusters_that_may_part_in_the_next_window_are_not_called_uncertain(caplog):
    state, shared = watched([0, 0, 0, 1, 1, 1])
    pulls = dict.fromkeys("abc", ONE_WAY) | dict.fromkeys("def", OTHER_WAY)
    rng = np.random.default_rng(3)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for noise in (5.0, 5.0, 0.3, 0.3):
            train(state, shared, pulls, rng, noise)
        assert shared.watch.undecided[0, 1]
        assert shared.watch.before.shortfall(0.3)[0, 1]
        assert caplog.text == ""
        for _ in range(2):
            train(state, shared, pulls, rng)
    assert state.teachers == ((0,), (1,))
    assert "from now on: 0; 1" in caplog.text
    assert UNSURE not in caplog.text


def test_a_later_clustering_tells_of_its_own_clusters(caplog):
    """That a cluster of that number was told of before says nothing."""
    state, shared = watched([0, 0, 0, 1, 1, 1])
    rng = np.random.default_rng(0)
    for _ in range(2):
        with caplog.at_level(logging.INFO, logger="flwr"):
            for turn in ["abc", "def"] * 4:
                train(state, shared, dict.fromkeys(turn, ONE_WAY), rng)
        assert caplog.text.count(NEVER_MET) == 2
        caplog.clear()
        shared.begin(state)


def test_sources_that_did_not_reply_do_not_count_in_the_start():
    # S' of source 0 is 10, of source 1 the mean of 10 and 20; a alone replies for them: + 3.
    state = federation([0, 1, 2], [[0, 1], [1], [2]], [floats(10), floats(20), floats(30)])
    shared = Sharing(Settings())
    shared.before_round(state)
    learned = shared.learned(state, replied({"a": floats(13), "c": floats(34)}), Mean())
    assert {z: each.floats.tolist() for z, each in learned.items()} == {0: [13], 2: [34]}


def test_clusters_of_the_same_several_origins_do_not_share():
    """Each starts from a mean of its own of the S of both, by how many came from where."""
    groups = [[0, 1], [0, 1], [2]]
    state = federation([0, 1, 2, 2], groups, [floats(10), floats(10), floats(30)])
    grouping = SimpleNamespace(names=list("abcd"), labels=np.array([0, 1, 0, 1]))
    assert Sharing(Settings()).teachers(state, grouping) == [[0], [1]]


def test_a_cluster_that_all_have_left_is_of_no_group(caplog):
    state, shared = watched([0, 0, 0, 1, 1, 1, 2, 2, 2])
    moved = dict(state.assignments) | dict.fromkeys("def", 2)
    state.assignments = moved
    shared.keep_to(state, set(moved.values()))
    assert state.teachers == ((0, 2), (), (0, 2))
    pulls = dict.fromkeys("abc", ONE_WAY) | dict.fromkeys("defghi", OTHER_WAY)
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for _ in range(4):
            train(state, shared, pulls, rng)
    assert state.teachers == ((0,), (), (2,))
    assert "from now on: 0; 2" in caplog.text


def test_a_cluster_that_teaches_a_lie_is_outvoted_by_the_others():
    """S is (1, 1) everywhere; clusters teach (2, 0), (3, 1) and a lie: the median is (3, 1)."""
    start = floats(1, 1)
    state = federation([0, 1, 2], [[0, 1, 2]] * 3, [start] * 3)
    replies = replied({"a": floats(2, 0), "b": floats(3, 1), "c": floats(900, 900)})
    shared = Sharing(Settings.from_run_config({"teacher-clusters": "all"}))
    shared.before_round(state)
    learned = shared.learned(state, replies, Median())
    assert [learned[z].floats.tolist() for z in range(3)] == [[3.0, 1.0]] * 3
    # Of sources that start apart, the mean of what each has moved: (1, 1), (2, 0) and (6, 2).
    apart = [floats(1, 1), floats(2, 2), floats(3, 3)]
    state = federation([0, 1, 2], [[0, 1, 2], [1, 2], [2]], apart)
    shared.before_round(state)
    starts = [shared.start_of(source).floats for source in range(3)]
    moves = np.array([[1, 1], [2, 0], [6, 2]], np.float32)
    ends = {name: floats(*(starts[i] + moves[i])) for i, name in enumerate("abc")}
    learned = shared.learned(state, replied(ends), Median())
    np.testing.assert_allclose(learned[0].floats, apart[0].floats + moves.mean(axis=0))
