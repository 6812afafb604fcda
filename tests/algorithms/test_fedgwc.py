import json
import logging

import numpy as np
import pytest
from flwr.app import Error, Message
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memory_grid import TRAINING, replace_array, run_quickly

from feddag_flwr.algorithms.fedgwc.server import (
    affinity,
    best_partition,
    gaussian_rewards,
    moved_interactions,
)

pytestmark = pytest.mark.integration

QUICK = {"algorithm": "fedgwc", "num_rounds": 2, "evaluate_every": 2, "participation": 0.7}


def lines(tmp_path, name="run"):
    text = (tmp_path / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


# -- the mathematics -------------------------------------------------------------------------------


def test_rewards_by_hand():
    # Epoch 1: losses 1, 1, 4 with weights 1, 1, 2: mean 2.5, variance 2.25: all one deviation off.
    # Epoch 2: losses 0, 0, 0: all at the mean.
    losses = np.array([[1.0, 0.0], [1.0, 0.0], [4.0, 0.0]])
    found = gaussian_rewards(losses, np.array([1, 1, 2]))
    np.testing.assert_allclose(found, (np.exp(-0.5) + 1) / 2)


@given(arrays(np.float64, (5, 3), elements=st.floats(0, 50)))
def test_a_client_nearer_the_mean_has_the_higher_reward(losses):
    weights = np.ones(5, np.int64)
    rewards = gaussian_rewards(losses, weights)
    assert (rewards >= 0).all()
    assert (rewards <= 1).all()
    one_epoch = gaussian_rewards(losses[:, :1], weights)
    away = abs(losses[:, 0] - losses[:, 0].mean())
    assert one_epoch[away.argmin()] == pytest.approx(one_epoch.max(), abs=1e-9)


def test_interactions_by_hand():
    before = np.array([[0.5, 0.1], [0.3, 0.7]])
    after = moved_interactions(before, np.array([0.3, 0.1]), 0.2)
    # 0.8 of the old, 0.2 of the shares 0.75 and 0.25.
    np.testing.assert_allclose(after, [[0.4 + 0.15, 0.08 + 0.15], [0.24 + 0.05, 0.56 + 0.05]])


@given(arrays(np.float64, (6, 6), elements=st.floats(0, 1)), st.floats(0.01, 5))
def test_the_affinity_compares_columns_without_the_two_clients_own_entries(matrix, rbf):
    found = affinity(matrix, rbf)
    scaled = (matrix - matrix.min()) / max(matrix.max() - matrix.min(), 1e-8)
    for i in range(6):
        for j in range(6):
            one, two = (np.delete(scaled[:, k], [i, j]) for k in (i, j))
            expected = np.exp(-rbf * ((one - two) ** 2).sum()) if i != j else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-9)


def planted(sizes, within, across, seed=0):
    """Interactions that differ between groups and hardly within."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(seed).normal(0, 0.01, (len(labels), len(labels)))
    return labels, np.where(labels[:, None] == labels, within, across) + noise


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6, 5)])
def test_planted_groups_are_found_with_their_number(sizes):
    labels, matrix = planted(sizes, 0.9, 0.1)
    found = best_partition(affinity(matrix, 1.0), 4, seed=0)
    np.testing.assert_array_equal(found, labels)


def test_four_groups_may_be_split_in_two_steps_but_are_not_torn():
    """Three parts in three dimensions score best: the fourth eigenvector is noise."""
    labels, matrix = planted((4, 4, 4, 4), 0.9, 0.1)
    found = best_partition(affinity(matrix, 1.0), 4, seed=0)
    assert len(set(zip(found, labels, strict=True))) == 4
    assert found.max() == 2


def test_no_split_where_none_scores_well():
    matrix = np.random.default_rng(0).random((40, 40))
    assert best_partition(affinity(matrix, 0.1), 4, seed=0).tolist() == [0] * 40


def test_a_split_makes_no_more_parts_than_it_may():
    _, matrix = planted((4, 4, 4, 4), 0.9, 0.1)
    affinities = affinity(matrix, 1.0)
    assert best_partition(affinities, 2, seed=0).max() <= 1
    assert best_partition(affinities, 1, seed=0).max() == 0


def test_groups_with_other_losses_are_found_after_many_rounds_and_not_after_few():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    interactions = np.full((40, 40), 40**-2.0)
    for number in range(1, 1001):
        drawn = np.sort(rng.choice(40, 8, replace=False))
        losses = 1.0 + labels[drawn, None] + rng.normal(0, 0.2, (8, 7))
        rewards = gaussian_rewards(losses, np.ones(8, np.int64))
        block = np.ix_(drawn, drawn)
        interactions[block] = moved_interactions(interactions[block], rewards, 8 / 40)
        if number == 100:
            assert best_partition(affinity(interactions, 0.1), 4, seed=0).max() == 0
    found = best_partition(affinity(interactions, 0.1), 4, seed=0)
    np.testing.assert_array_equal(found, labels)


# -- runs ------------------------------------------------------------------------------------------


def plant(monkeypatch, labels):
    """Give the cluster of all a P with planted groups, and let it stand still at once."""
    from feddag_flwr.algorithms.fedgwc.server import FedGWC

    form = FedGWC.begin

    def form_and_plant(self):
        form(self)
        self._interactions = np.where(np.equal.outer(labels, labels), 0.9, 0.1)
        self._interactions += np.random.default_rng(0).normal(0, 1e-3, self._interactions.shape)

    monkeypatch.setattr(FedGWC, "begin", form_and_plant)


def test_a_cluster_that_stands_still_is_split_along_its_interactions(tmp_path, monkeypatch):
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0])
    plant(monkeypatch, labels)
    changes = {"num_clients": 8, "num_rounds": 3, "participation": 0.4, "fedgwc_epsilon": 64.0}
    strategy, _ = run_quickly(tmp_path, fedgwc_rbf=1.0, **QUICK | changes)
    # Three of eight a round: patience 3 (8 / 3 rounded) is reached in round 3 and not before.
    assert [line["clusters"] for line in lines(tmp_path)] == [1, 1, 1, 2]
    assert list(strategy.state.assignments.values()) == labels.tolist()
    one, two = (model["primary"].floats for model in strategy.state.models)
    np.testing.assert_array_equal(one, two)


def test_no_split_before_the_change_is_small(tmp_path, monkeypatch):
    plant(monkeypatch, np.array([0, 1, 0, 1, 0, 1, 1, 0]))
    changes = {"num_clients": 8, "num_rounds": 4, "participation": 0.4, "fedgwc_epsilon": 0.64}
    strategy, _ = run_quickly(tmp_path, fedgwc_rbf=1.0, **QUICK | changes)
    # (1 - 3/8)^4 = 0.15: the running mean starts at 1.
    assert strategy.state.num_clusters == 1
    assert 0.15 < strategy.algorithm._progress[0].change < 0.2


def test_a_cluster_no_larger_than_a_round_is_left_alone(tmp_path, monkeypatch):
    plant(monkeypatch, np.array([0, 1, 0, 1, 0, 1]))
    changes = {"participation": 1.0, "fedgwc_epsilon": 64.0}
    strategy, _ = run_quickly(tmp_path, fedgwc_rbf=1.0, **QUICK | changes)
    assert strategy.state.num_clusters == 1
    np.testing.assert_allclose(strategy.algorithm._interactions, 0.5, atol=0.45)


def test_only_participants_learn_of_one_another(tmp_path):
    strategy, _ = run_quickly(tmp_path, **QUICK | {"num_rounds": 1})
    line = lines(tmp_path)[1]
    drawn = [int(name[-1]) for name in line["sampled"]]
    assert len(drawn) == 4
    block = strategy.algorithm._interactions[np.ix_(drawn, drawn)]
    shares = (block - (1 - 4 / 6) / 36) / (4 / 6)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)  # shares of the rewards sum to 1
    assert (strategy.algorithm._interactions == 1 / 36).sum() == 36 - 16


def test_two_participants_tell_nothing(tmp_path):
    strategy, _ = run_quickly(tmp_path, **QUICK | {"participation": 0.34})
    np.testing.assert_array_equal(strategy.algorithm._interactions, 1 / 36)
    assert strategy.algorithm._progress[0].change == 1.0


@pytest.mark.parametrize("kind", ["error", "nan", "shape"])
def test_a_faulty_client_takes_no_part_in_the_interactions(tmp_path, caplog, kind):
    def tamper(partition, action, reply):
        if action not in TRAINING or partition != 3:
            return reply
        if kind == "error":
            return Message(Error(1, "ValueError: broken"), reply_to=reply)
        values = np.array([np.nan]) if kind == "nan" else np.zeros(2)
        return replace_array(reply, "number.losses", values)

    changes = {"participation": 0.9, "num_rounds": 1}
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=tamper, **QUICK | changes)
    assert "train: client client-3 is left out" in caplog.text
    assert (strategy.algorithm._interactions[3] == 1 / 36).all()
    assert (strategy.algorithm._interactions != 1 / 36).any()


def test_the_order_of_nodes_and_replies_changes_nothing(tmp_path, monkeypatch):
    plant(monkeypatch, np.array([0, 1, 0, 1, 0, 1, 1, 0]))
    changes = {"num_clients": 8, "num_rounds": 4, "participation": 0.4, "fedgwc_epsilon": 64.0}
    files = []
    for name, seed in (("one", 1), ("two", 2)):
        run_quickly(tmp_path, name=name, grid_seed=seed, fedgwc_rbf=1.0, **QUICK | changes)
        files.append((tmp_path / name / "metrics.jsonl").read_bytes())
    assert files[0] == files[1]


def test_a_reply_carries_a_loss_for_each_epoch_more_than_fedavg(tmp_path):
    settings = QUICK | {"num_rounds": 1, "local_epochs": 3}
    run_quickly(tmp_path, name="fedgwc", **settings)
    run_quickly(tmp_path, name="fedavg", **settings | {"algorithm": "fedavg"})
    one, two = (lines(tmp_path, name)[1]["bytes"] for name in ("fedgwc", "fedavg"))
    assert one["down"] == two["down"]
    assert one["up"]["train"] - two["up"]["train"] == 4 * (3 * 8 + 128)  # and NumPy's header
