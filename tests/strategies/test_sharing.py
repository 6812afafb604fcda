import numpy as np
import pytest

from feddag_flwr.aggregation import Weights, mean, shift, weighted_mean
from feddag_flwr.metrics import Evaluation
from feddag_flwr.records import TrainReply
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState
from feddag_flwr.strategies import sharing as module
from feddag_flwr.strategies.sharing import Sharing

NOTHING = Evaluation(np.zeros(2, np.int64), np.zeros(2, np.int64), 0.0)


def drawn(rng):
    return Weights(
        rng.normal(size=40).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
        rng.integers(0, 9, 2),
    )


def federation(assignments, sources, secondaries):
    """Clients a, b, .. in clusters that have nothing but secondary encoders."""
    names = [chr(ord("a") + place) for place in range(len(assignments))]
    state = ServerState(
        ("x", "y"), (1, 8, 8), ((0.0, 1.0),), {name: Client(name, 1, 1) for name in names}
    )
    models = [{"secondary": secondary} for secondary in secondaries]
    state.set_clusters(names, assignments, models, sources)
    return state


def replied(values, samples=None):
    return {
        name: TrainReply((samples or {}).get(name, 1), {"shared": weights}, NOTHING)
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
                [reply.parts["shared"] for reply in its], [reply.samples for reply in its]
            )
    found = {}
    for learner, row in enumerate(state.sources):
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
@pytest.mark.parametrize("sources", [GROUPS, GRAPH])
@pytest.mark.parametrize("replying", ["abcdefgh", "bdh", "e"])
@pytest.mark.parametrize("alike", [True, False])
def test_what_is_computed_once_a_group_is_what_each_would_have(combine, sources, replying, alike):
    """To the bit, whether the clusters of a group have one S, or S that are only near."""
    rng = np.random.default_rng(0)
    secondaries = [drawn(rng) for _ in GROUPS]
    if alike:
        secondaries = [secondaries[row[0]] for row in GROUPS]
    state = federation([0, 1, 2, 3, 4, 5, 2, 0], sources, secondaries)
    replies = replied({name: drawn(rng) for name in replying}, {"a": 3, "h": 7})
    shared = Sharing(Settings(**{"sources": "all", "combine-sources": combine}))
    shared.before_round(state)
    learned = shared.learned(state, replies)
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
    sources = [[0, 1, 2, 3]] * 4 + [[4, 5]] * 2
    state = federation([0, 1, 2, 3, 4, 5], sources, [one, twin, one, twin, other, other])
    shared = Sharing(Settings(**{"sources": "all", "combine-sources": combine}))
    shared.before_round(state)
    assert taken == {"mean": 2, "shift": 0}
    assert shared.start_of(0) is shared.start_of(3)
    learned = shared.learned(state, replied({name: drawn(rng) for name in "abcdef"}))
    # Two groups: of each the mean of what was trained and of the starts, or a shift a source.
    assert taken == ({"mean": 6, "shift": 2} if combine == "mean" else {"mean": 2, "shift": 6})
    assert [learned[z] is learned[0] for z in range(6)] == [True] * 4 + [False] * 2
    assert learned[5] is learned[4]
