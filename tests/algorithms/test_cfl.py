import json
import logging

import numpy as np
import pytest
from flwr.app import Error, Message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memory_grid import TRAINING, replace_array, run_quickly

from feddag_flwr.algorithms.cfl.server import bipartition, cosine_similarities, update_norms

pytestmark = pytest.mark.integration

# Two turns of the digits: what CFL's paper splits (its Fig. 1 are two incongruent groups).
TURNED = {
    "algorithm": "cfl",
    "num_clients": 6,
    "client_groups": 1,
    "label_skew": 100.0,
    "rotations": 2,
    "participation": 1.0,
    "local_epochs": 2,
    "learning_rate": 0.1,
    "num_rounds": 4,
    "evaluate_every": 4,
    "cfl_quiet_rounds": 3,
    "cfl_thresholds": "absolute",
    "cfl_eps1": 10.0,
    "cfl_eps2": 0.01,
}


def lines(tmp_path, name="run"):
    text = (tmp_path / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


# -- the mathematics -------------------------------------------------------------------------------


def test_norms_by_hand():
    updates = np.array([[3.0, 4.0], [-3.0, 0.0], [0.0, 0.0]], np.float32)
    norms = update_norms(updates, np.array([1, 1, 2]))
    assert norms == pytest.approx((1.0, 5.0))  # the mean is (0, 1)


def test_similarities_by_hand():
    found = cosine_similarities(np.array([[2, 0], [1, 1], [-3, 0], [0, 0]], np.float32))
    half = 0.5**0.5
    expected = [[1, half, -1, 0], [half, 1, -half, 0], [-1, -half, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_the_two_cuts_differ_where_one_client_bridges_the_groups():
    # Angles on a circle: a chain 0, 30, 60, 90, and one at 130 degrees. The widest gap (40) is the
    # last; complete linkage weighs whole diameters instead.
    angles = np.radians([0, 30, 60, 90, 130])
    similarities = np.cos(angles[:, None] - angles)
    optimal = bipartition(similarities, optimal=True)
    assert optimal.sides.tolist() == [0, 0, 0, 0, 1]
    assert optimal.separation == pytest.approx(np.sin(np.radians(20)))  # half-angle formula
    assert bipartition(similarities, optimal=False).sides.tolist() == [0, 0, 1, 1, 1]


@given(arrays(np.float32, (6, 3), elements=st.floats(-1, 1, width=32)))
def test_the_optimal_cut_beats_every_other(updates):
    similarities = cosine_similarities(updates)
    best = min(
        similarities[np.ix_(side, ~side)].max()
        for code in range(1, 32)
        if (side := np.array([code >> bit & 1 for bit in range(6)], bool)).any()
    )
    cut = bipartition(similarities, optimal=True)
    assert similarities[np.ix_(cut.sides == 0, cut.sides == 1)].max() == pytest.approx(best)
    assert cut.separation == pytest.approx(np.sqrt((1 - best) / 2), abs=1e-7)


@given(st.integers(2, 9), st.booleans())
def test_clients_that_cannot_be_told_apart_are_still_cut_in_two(count, optimal):
    cut = bipartition(np.ones((count, count)), optimal=optimal)
    assert sorted(set(cut.sides.tolist())) == [0, 1]
    assert cut.separation == 0


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bipartition", ["complete", "optimal"])
def test_turned_digits_are_told_apart(tmp_path, bipartition):
    strategy, _ = run_quickly(tmp_path, cfl_bipartition=bipartition, **TURNED)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [line["clusters"] for line in lines(tmp_path)[1:]] == [1] * 3 + [2]
    assert summary["adjusted-rand-index"] == 1.0
    assert strategy.state.assignments["client-0"] == 0
    assert [set(model) for model in strategy.state.models] == [{"primary", "classifier"}] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"cfl_eps1": 1e-6},  # the mean still moves
        {"cfl_eps2": 9.0},  # nobody pulls away
        {"cfl_gamma_max": 1.0},  # no cut is separated so well
        {"cfl_quiet_rounds": 4},
        {"cfl_thresholds": "relative", "cfl_eps1": 1e-3},
        {"cfl_thresholds": "relative", "cfl_eps2": 1e3},
    ],
)
def test_each_condition_alone_keeps_the_cluster_whole(tmp_path, changes):
    quick = {"num_rounds": 2, "local_epochs": 1, "cfl_quiet_rounds": 0}
    strategy, _ = run_quickly(tmp_path, **TURNED | quick | changes)
    assert strategy.state.num_clusters == 1


def test_relative_thresholds_do_not_depend_on_the_unit_of_the_weights(tmp_path):
    """In the first round the unit is this round's own mean: just below and above 1 decide."""
    quick = {"num_rounds": 1, "cfl_quiet_rounds": 0, "cfl_thresholds": "relative"}
    for name, eps1, clusters in (("below", 0.99, 1), ("above", 1.01, 2)):
        changes = quick | {"cfl_eps1": eps1}
        strategy, _ = run_quickly(tmp_path, name=name, **TURNED | changes)
        assert strategy.state.num_clusters == clusters


def test_a_cut_waits_until_every_member_has_been_drawn(tmp_path):
    changes = {"participation": 0.5, "num_rounds": 10, "local_epochs": 1, "cfl_quiet_rounds": 0}
    run_quickly(tmp_path, **TURNED | changes)
    drawn: set[str] = set()
    for line in lines(tmp_path)[1:]:
        drawn |= set(line["sampled"])
        assert line["clusters"] == 1 + (len(drawn) == 6)
        if len(drawn) == 6:
            break
    assert line["round"] > 2
    assert "moved" in line


def test_two_clients_are_never_cut(tmp_path):
    strategy, _ = run_quickly(
        tmp_path, **TURNED | {"num_clients": 2, "num_rounds": 3, "cfl_quiet_rounds": 0}
    )
    assert strategy.state.num_clusters == 1


def test_both_halves_start_from_the_clusters_model_and_their_own_mean(tmp_path):
    """The round of the cut already averages within the separate_heads, as the public code does."""
    arrived = {}

    def tamper(partition, action, reply):
        if action in TRAINING:
            values = reply.content.array_records["arrays"]["primary.floats"].numpy()
            arrived[f"client-{partition}"] = np.array(values, np.float64)
        return reply

    quick = {"num_rounds": 1, "cfl_quiet_rounds": 0}
    strategy, _ = run_quickly(tmp_path, tamper=tamper, **TURNED | quick)
    assert strategy.state.num_clusters == 2
    for cluster, model in enumerate(strategy.state.models):
        members = strategy.state.members(cluster)
        expected = np.average(
            [arrived[member.name] for member in members],
            axis=0,
            weights=[member.train_samples for member in members],
        )
        np.testing.assert_allclose(model["primary"].floats, expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["error", "nan"])
def test_a_client_that_never_answers_does_not_hold_the_cut_up(tmp_path, caplog, kind):
    def tamper(partition, action, reply):
        if action not in TRAINING or partition != 3:
            return reply
        if kind == "error":
            return Message(Error(1, "ValueError: broken"), reply_to=reply)
        return replace_array(reply, "primary.floats", np.full(3, np.nan, np.float32))

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, **TURNED)
    assert "train: client client-3 is left out" in caplog.text
    assert strategy.state.num_clusters == 2
    answered = {n: z for n, z in strategy.state.assignments.items() if n != "client-3"}
    sizes = np.bincount(list(answered.values()))
    assert strategy.state.assignments["client-3"] == sizes.argmax()
    groups = {n: strategy.context.true_groups[n] for n in answered}
    assert len({(answered[n], groups[n]) for n in answered}) == 2


def test_only_the_messages_of_fedavg_travel(tmp_path):
    quick = TURNED | {"num_rounds": 2, "cfl_quiet_rounds": 0}
    run_quickly(tmp_path, name="cfl", **quick)
    run_quickly(tmp_path, name="fedavg", **quick | {"algorithm": "fedavg"})
    assert [line["bytes"] for line in lines(tmp_path, "cfl")] == [
        line["bytes"] for line in lines(tmp_path, "fedavg")
    ]
