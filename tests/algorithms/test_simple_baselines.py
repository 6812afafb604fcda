"""FedAvg, FedProx, Per-FedAvg, PACFL, oracle and local on the common base.

FedAvg's mean is in test_clustered.py, PACFL's angles are in test_pacfl.py.
"""

import json
import logging

import numpy as np
import pytest
from memory_grid import TRAINING, MemoryGrid, array_of, quick_settings, replace_array, run_quickly

from feddag_flwr.engine.registration import FederationError
from feddag_flwr.models.flat import get_parts
from feddag_flwr.simulation import load_client_app

pytestmark = pytest.mark.integration

SIMPLE = ["ditto", "fedavg", "fedprox", "local", "oracle", "pacfl", "per-fedavg"]
FULL = {"participation": 1.0, "num_rounds": 1, "evaluate_every": 1}
HEADER = 128  # bytes that NumPy puts before an array


def lines(strategy):
    return [json.loads(line) for line in (strategy.folder.path / "metrics.jsonl").open()]


def summary(strategy):
    return json.loads((strategy.folder.path / "summary.json").read_text())


def floats(model):
    return np.concatenate([weights.floats for weights in model.values()])


def same_models(one, two):
    return all(
        (floats(a) == floats(b)).all()
        for a, b in zip(one.state.models, two.state.models, strict=True)
    )


def keeping(found):
    """Keep what clients send in training: (round, client) to samples and weights."""

    def tamper(partition, action, reply):
        if action in TRAINING:
            info = reply.content.config_records["info"]
            trained = [array_of(reply, f"{part}.floats") for part in ("primary", "classifier")]
            key = info["round"], f"client-{partition}"
            found[key] = info["samples"], np.concatenate(trained)
        return reply

    return tamper


def raising_grid(tmp_path, name, partition, actions, **changes):
    """Return a grid on which one client's app raises."""
    app = load_client_app()

    def faulty(message, context):
        chosen = context.node_config["partition-id"] == partition
        if chosen and message.metadata.message_type in actions:
            raise RuntimeError("the disk of this client is full")
        return app(message, context)

    settings = quick_settings(run_dir=str(tmp_path), run_name=name, **changes)
    return MemoryGrid(settings, app=faulty)


def check_unseen(strategy, grid, algorithm):
    """Clients that training never saw are asked for nothing of it, placed, and judged."""
    held_out = {strategy.context.clients.nodes[name] for name in strategy.context.held_out}
    assert len(held_out) == 2
    assert not set(strategy.context.held_out) & set(strategy.state.clients)
    asked = [action for action, node in grid.sent if node in held_out]
    wanted = ["query.describe"] + ["query.vectors"] * (algorithm == "pacfl")
    if algorithm == "local":  # nobody has a model to share
        assert asked == wanted * 2
        assert strategy.evaluator.placements == {}
        return
    assert sorted(asked) == sorted([*wanted, "evaluate"] * 2)
    assert sorted(strategy.evaluator.placements) == sorted(strategy.context.held_out)
    assert sorted(lines(strategy)[-1]["held-out"]["by-client"]) == sorted(strategy.context.held_out)
    assert summary(strategy)["held-out"]["clients"] == 2
    assert lines(strategy)[-1]["all"]["overall"]["clients"] == 4
    if algorithm in {"oracle", "pacfl"}:
        groups = {strategy.context.true_groups[n]: z for n, z in strategy.state.assignments.items()}
        for name, cluster in strategy.evaluator.placements.items():
            assert cluster == groups[strategy.context.true_groups[name]]


# -- what all have in common -----------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SIMPLE)
def test_unseen_clients_tuning_and_the_order_of_replies(tmp_path, algorithm):
    changes = {
        "algorithm": algorithm,
        "num_clusters": 3,
        "held_out_share": 0.34,
        "evaluate_every": 1,
    }
    plain, grid = run_quickly(tmp_path, name="plain", grid_seed=1, **changes)
    check_unseen(plain, grid, algorithm)
    # The same run with replies in another order and with tuning at its end.
    personalised, _ = run_quickly(
        tmp_path, name="personalised", grid_seed=2, personalisation_epochs=2, **changes
    )
    assert same_models(plain, personalised)
    assert plain.state.assignments == personalised.state.assignments
    assert plain.evaluator.placements == personalised.evaluator.placements
    before, after = lines(plain), lines(personalised)
    assert before[:-1] == after[:-1]  # nobody is personalised before the last round
    extra = {
        key: after[-1].pop(key)
        for key in ("personalised", "held-out-personalised")
        if key in after[-1]
    }
    for line in (before[-1], after[-1]):  # tuning is asked for and answered: more to send
        for key in ("bytes", "bytes-sent", "bytes-least", "overhead"):
            del line[key]
    assert before[-1] == after[-1]
    assert sorted(extra["personalised"]["by-client"]) == sorted(plain.state.clients)
    assert extra["personalised"]["overall"] != after[-1]["all"]["overall"]
    assert sorted(extra["held-out-personalised"]["by-client"]) == sorted(plain.evaluator.placements)


@pytest.mark.parametrize("algorithm", SIMPLE)
def test_a_client_that_raises_costs_its_own_update(tmp_path, caplog, algorithm):
    changes = FULL | {"algorithm": algorithm, "evaluate_participants": False}
    grid = raising_grid(tmp_path, "faulty", 3, TRAINING, **changes)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        faulty, _ = run_quickly(tmp_path, name="faulty", grid=grid, **changes)
    assert "train: client client-3 is left out: error" in caplog.text
    assert "the disk of this client is full" in caplog.text
    line = lines(faulty)[1]
    assert (line["failed"], line["replied"]) == (["client-3"], 5)
    assert line["all"]["overall"]["clients"] == 6
    # Participants do not judge the model received, where that is not wanted.
    assert line["participants"]["overall"] == {"clients": 0}
    # A model a client travels down to train, five come back, and six are judged. Ditto trains two.
    trained = 2 if algorithm == "ditto" else 1
    model = sum(weights.nbytes + HEADER for weights in faulty.state.models[0].values())
    counts = 2 * (10 * 8 + HEADER)  # hits and totals of ten classes
    moved = {
        "down": {"train": 6 * trained * model, "evaluate": 6 * model},
        "up": {"train": 5 * trained * model, "evaluate": 6 * counts},
    }
    assert line["bytes"] == ({"down": {}, "up": {}} if algorithm == "local" else moved)


# -- FedProx ----------------------------------------------------------------------------


def test_fedprox_holds_clients_near_the_model_received(tmp_path):
    found = {"free": {}, "held": {}}
    changes = FULL | {"local_epochs": 2}
    free, _ = run_quickly(
        tmp_path, name="free", algorithm="fedavg", tamper=keeping(found["free"]), **changes
    )
    held, _ = run_quickly(
        tmp_path, name="held", algorithm="fedprox", fedprox_mu=20.0,
        tamper=keeping(found["held"]), **changes,
    )  # fmt: skip
    assert held.algorithm.local_training("client-0").proximal == 20.0
    start = floats(get_parts(held.context.initial_model(dual=False)))
    for client in (f"client-{i}" for i in range(6)):
        lengths = [np.linalg.norm(found[which][1, client][1] - start) for which in found]
        assert lengths[1] < 0.9 * lengths[0]
    none, _ = run_quickly(tmp_path, name="none", algorithm="fedprox", fedprox_mu=0.0, **changes)
    assert same_models(free, none)


# -- Per-FedAvg ------------------------------------------------------------------------------------


def test_per_fedavg_trains_a_start_and_judges_what_a_client_makes_of_it(tmp_path):
    changes = FULL | {"num_rounds": 0, "evaluate_participants": True}
    strategy, _ = run_quickly(tmp_path, algorithm="per-fedavg", per_fedavg_alpha=0.2, **changes)
    plain, _ = run_quickly(tmp_path, name="plain", algorithm="fedavg", **changes)
    request = strategy.algorithm.train_request(1, "client-0")
    assert (request.action, request.inner_rate) == ("train.fomaml", 0.2)
    assert same_models(strategy, plain)
    # From one start the adapted model is better than the start itself, on every client.
    adapted, start = (lines(run)[0]["all"] for run in (strategy, plain))
    assert adapted["overall"]["loss"] < start["overall"]["loss"]


# -- the oracle ------------------------------------------------------------------------------------


def test_the_oracle_is_fedavg_within_each_true_group(tmp_path):
    found = {}
    strategy, _ = run_quickly(tmp_path, algorithm="oracle", tamper=keeping(found), **FULL)
    assert strategy.state.num_clusters == 3
    for group in range(3):
        members = sorted(n for n, g in strategy.context.true_groups.items() if g == group)
        samples, vectors = zip(*(found[1, name] for name in members), strict=True)
        (cluster,) = {strategy.state.assignments[name] for name in members}
        np.testing.assert_allclose(
            floats(strategy.state.models[cluster]),
            np.average(vectors, axis=0, weights=samples),
            atol=1e-7,
        )


def test_the_oracle_needs_true_groups(tmp_path):
    with pytest.raises(FederationError, match=r"scenario = 'lda' as set has no true groups"):
        run_quickly(tmp_path, algorithm="oracle", scenario="lda")


def test_an_unseen_client_without_a_group_that_training_knows_has_no_model(tmp_path):
    strategy, _ = run_quickly(
        tmp_path, algorithm="oracle", num_clients=9, held_out_share=0.34, num_rounds=0
    )
    silent, stranger, known = sorted(strategy.context.held_out)
    del strategy.context.true_groups[silent]
    strategy.context.true_groups[stranger] = 99
    assert strategy.algorithm.place_held_out(1, sorted(strategy.context.held_out)) == {
        known: strategy.evaluator.placements[known]
    }


# -- every client by itself ------------------------------------------------------------------------


def test_no_local_update_reaches_another_client(tmp_path):
    def meddling(partition, action, reply):
        if action in TRAINING and partition == 3:
            return replace_array(reply, "primary.floats", 2 * array_of(reply, "primary.floats"))
        return reply

    found = {}
    changes = FULL | {"algorithm": "local", "num_rounds": 2}
    one, _ = run_quickly(tmp_path, name="one", tamper=keeping(found), **changes)
    two, _ = run_quickly(tmp_path, name="two", tamper=meddling, **changes)
    for name, cluster in one.state.assignments.items():
        equal = floats(one.state.models[cluster]) == floats(two.state.models[cluster])
        assert equal.all() == (name != "client-3")
    # Each has what it sent last, and nothing of all that counts as traffic.
    assert one.state.num_clusters == 6
    for name, cluster in one.state.assignments.items():
        np.testing.assert_array_equal(floats(one.state.models[cluster]), found[2, name][1])
    assert all(line["bytes"] == {"down": {}, "up": {}} for line in lines(one))
    assert summary(one)["bytes-per-client"] == 0
