import itertools
import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memory_grid import TRAINING, array_of, failed, replace_array, run_quickly

from feddag_flwr.algorithms.cfl_gp.server import GradientProfiles, leading_coordinates
from feddag_flwr.clustering.labels import matched_labels

pytestmark = pytest.mark.integration

# Two groups of clients with three classes each, and a rate at which two epochs tell.
GROUPED = {
    "algorithm": "cfl-gp",
    "num_clients": 6,
    "client_groups": 2,
    "num_clusters": 2,
    "learning_rate": 0.1,
    "num_rounds": 3,
    "evaluate_every": 3,
    "cfl_gp_period": 2,
}
ONCE = GROUPED | {"num_rounds": 1}


def lines(tmp_path, name="run"):
    text = (tmp_path / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


# -- the mathematics -------------------------------------------------------------------------------


def test_a_block_holds_the_mean_of_the_gradients_so_far():
    profiles = GradientProfiles()
    for values in ([1.0, 0.0], [2.0, 3.0], [6.0, 0.0]):
        profiles.add(0, "a", np.array(values, np.float32))
    profiles.add(0, "b", np.array([1.0, 1.0], np.float32))
    # a: mean (3, 1); b: (1, 1).
    np.testing.assert_allclose(profiles.products(["a", "b"]), [[10, 4], [4, 2]], atol=1e-5)


def test_blocks_stand_below_one_another_and_a_client_needs_all_of_them():
    profiles = GradientProfiles()
    assert profiles.complete() == []
    for block, name, values in ((0, "b", [1, 2]), (0, "a", [3, 4]), (2, "a", [5, 6])):
        profiles.add(block, name, np.array(values, np.float32))
    assert profiles.complete() == ["a"]
    assert profiles.products(["a"]) == pytest.approx(np.array([[9 + 16 + 25 + 36]]))


@given(arrays(np.float64, (7, 5), elements=st.floats(-10, 10)), st.integers(1, 6))
def test_the_projection_is_that_of_the_singular_value_decomposition(matrix, count):
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    gap = values[count - 1] - values[count] if count < 5 else 1.0
    if gap < 1e-3:  # the leading space is not unique there
        return
    expected = left[:, :count].T @ matrix
    found = leading_coordinates(matrix.T @ matrix, count)
    np.testing.assert_allclose(found @ found.T, expected.T @ expected, atol=1e-4)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12),
)
def test_matching_keeps_as_many_numbers_as_any_permutation(pairs):
    previous, labels = (np.array(side) for side in zip(*pairs, strict=True))
    best = max(
        (np.array(order)[labels] == previous).sum() for order in itertools.permutations(range(4))
    )
    found = matched_labels(previous.tolist(), labels, 4)
    assert (found == previous).sum() == best
    assert len(set(zip(found, labels, strict=True))) == len(set(labels))


# -- runs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["update", "gradient"])
def test_groups_of_classes_are_found_in_the_first_round(tmp_path, profile):
    strategy, _ = run_quickly(tmp_path, cfl_gp_profile=profile, **GROUPED)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["adjusted-rand-index"] == 1.0
    assert [line["round"] for line in lines(tmp_path) if "moved" in line] == [0, 1]
    assert strategy.state.num_clusters == 2


def test_all_clients_are_asked_in_every_second_round_until_the_last(tmp_path):
    changes = {"num_rounds": 6, "cfl_gp_last_round": 4, "cfl_gp_profile": "gradient"}
    _, grid = run_quickly(tmp_path, participation=0.34, **GROUPED | changes)
    actions = [action for action, _ in grid.sent]
    assert actions.count("query.gradient") == 2 * 6
    assert actions.count("train") == 6 * 2
    assert ["profile" in line["bytes"]["down"] for line in lines(tmp_path)[1:]] == [
        True, False, True, False, False, False,
    ]  # fmt: skip


def test_the_criterion_goes_round_the_models(tmp_path):
    """Round 1 asks about model 0, round 3 about model 1 as rounds 1 and 2 have left it."""
    received = {}

    def tamper(partition, action, reply):
        if action == "query.gradient":
            number = reply.content.config_records["info"]["round"]
            received.setdefault(number, {})[partition] = array_of(reply, "primary.floats")
        return reply

    settings = GROUPED | {"participation": 1.0, "cfl_gp_profile": "gradient"}
    strategy, _ = run_quickly(tmp_path, tamper=tamper, **settings)
    members = [int(member.name[-1]) for member in strategy.state.members(1)]
    others = [int(member.name[-1]) for member in strategy.state.members(0)]
    lengths = {p: np.linalg.norm(values) for p, values in received[3].items()}
    # Model 1 fits its own members by then, so that theirs is the short gradient.
    assert max(lengths[p] for p in members) < min(lengths[p] for p in others)
    assert sorted(received) == [1, 3]


def test_the_update_of_the_profile_is_that_of_training(tmp_path):
    """In round 1 both are trained from the same start with the same draws."""
    arrived = {}

    def tamper(partition, action, reply):
        if action in TRAINING:
            arrived.setdefault(partition, []).append(array_of(reply, "primary.floats"))
        return reply

    settings = ONCE | {"participation": 1.0}
    run_quickly(tmp_path, tamper=tamper, **settings)
    assert sorted(arrived) == list(range(6))
    for first, second in arrived.values():
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", ["error", "shape"])
def test_a_client_without_a_profile_stays_where_it_is(tmp_path, caplog, kind):
    def tamper(partition, action, reply):
        if action != "query.gradient" or partition != 3:
            return reply
        if kind == "error":
            return failed(reply)
        return replace_array(reply, "primary.floats", np.zeros(3, np.float32))

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, cfl_gp_profile="gradient", **ONCE)
    assert ": client client-3 is left out" in caplog.text
    assert strategy.state.assignments["client-3"] == 0
    answered = {n: z for n, z in strategy.state.assignments.items() if n != "client-3"}
    pairs = {(z, strategy.context.true_groups[n]) for n, z in answered.items()}
    assert len(pairs) == 2


def test_a_faulty_update_costs_the_profile_too(tmp_path, caplog):
    def tamper(partition, action, reply):
        if action in TRAINING and partition == 3:
            values = array_of(reply, "primary.floats")
            values[0] = np.nan
            return replace_array(reply, "primary.floats", values)
        return reply

    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, **ONCE)
    assert "profile: client client-3 is left out: array 'primary.floats'" in caplog.text
    assert set(strategy.state.assignments.values()) == {0, 1}


def test_more_clusters_than_clients_leave_models_without_members(tmp_path):
    strategy, _ = run_quickly(tmp_path, **ONCE | {"num_clusters": 9})
    assert strategy.state.num_clusters == 9
    assert len(set(strategy.state.assignments.values())) <= 6
    assert len(strategy.evaluator.evaluations) == 6


def test_a_gradient_is_as_large_as_a_model(tmp_path):
    changes = {"cfl_gp_profile": "gradient", "num_rounds": 1, "evaluate_every": 1}
    strategy, _ = run_quickly(tmp_path, **GROUPED | changes)
    weights = sum(part.nbytes for part in strategy.state.models[0].values())
    moved = lines(tmp_path)[1]["bytes"]
    expected = 6 * (weights + 2 * 128)  # NumPy's header, for each of two arrays
    assert moved["down"]["profile"] == moved["up"]["profile"] == expected
