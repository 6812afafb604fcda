"""Whole runs with private profiles: what travels, what is promised, what a stopped run knows."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message
from memory_grid import (
    MemoryGrid,
    array_of,
    let_come_later,
    quick_settings,
    replace_array,
    run_quickly,
)
from private_settings import PRIVATE

from feddag_flwr.engine.runs import open_run
from feddag_flwr.privacy import budget
from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.run_folder import PRIVACY, SUMMARY, RunFolder
from feddag_flwr.settings import Settings, SettingsError

pytestmark = pytest.mark.integration
# Epsilon of two profiles, each with epsilon 3.
TWO = ProfileBudget.of(3.0, 1e-5).epsilon(2)
OTHERWISE = {"standardise": False, "drift_threshold": 0.0}
ALL_CLASSES = {"label_skew": 100.0, "client_groups": 1}


def summary_of(tmp_path, name="run"):
    return json.loads((tmp_path / name / SUMMARY).read_text())


def record_replies(replies):
    def tamper(partition, action, reply):
        replies.setdefault(action, {})[partition] = reply
        return reply

    return tamper


def test_no_sample_has_a_say_in_what_is_told_but_noisy_counts_and_vectors(tmp_path):
    replies = {}
    strategy, grid = run_quickly(tmp_path, tamper=record_replies(replies), **PRIVATE)
    assert {action for action, _ in grid.sent} == {
        "query.describe", "query.private_profile", "train.dual", "evaluate",
    }  # fmt: skip
    for reply in replies["query.describe"].values():
        info = reply.content.config_records["info"]
        assert (info["train-samples"], info["test-samples"]) == (1, 0)
        moments = [value for key, value in info.items() if key.startswith("moments")]
        assert not np.any([list(rows) for rows in moments if isinstance(rows, list)])
    for reply in replies["query.private_profile"].values():
        assert set(reply.content["arrays"]) == {"vectors", "vector-classes", "counts"}
        assert set(reply.content["info"]) == {"client", "round", "transport"}
        assert array_of(reply, "vectors").shape[1] == 16
    assert strategy.state.num_clusters >= 1


def test_groups_are_found_from_noisy_profiles(tmp_path):
    # Two concepts of 20 images a class: enough at epsilon 100, where noise is small.
    changes = PRIVATE | ALL_CLASSES | {"profile_epsilon": 100.0, "concepts": 2}
    strategy, _ = run_quickly(tmp_path, num_rounds=0, **changes)
    assert summary_of(tmp_path)["adjusted-rand-index"] == 1
    assert strategy.state.num_clusters == 2


def test_what_is_promised_is_told(tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO, "flwr")
    run_quickly(tmp_path, num_rounds=1, evaluate_every=1, **PRIVATE)
    told = summary_of(tmp_path)["privacy"]
    assert told["epsilon"] == pytest.approx(3.0, abs=1e-6)
    assert told["epsilon"] <= 3.0
    assert (told["delta"], told["most-profiles-of-a-client"]) == (1e-5, 1)
    sentence = (
        "epsilon 3 at delta 1e-05 covers each client's profile, for one training sample more or "
        "less; it does not cover what training sends"
    )
    assert told["promise"].startswith(sentence)
    assert sentence in caplog.text
    assert sentence in " ".join(capsys.readouterr().out.split())
    lines = (tmp_path / "run" / PRIVACY).read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    assert sorted(each["client"] for each in asked) == [f"client-{i}" for i in range(6)]


def test_without_it_nothing_is_promised(tmp_path):
    run_quickly(tmp_path, num_rounds=0)
    assert "privacy" not in summary_of(tmp_path)
    assert not (tmp_path / "run" / PRIVACY).exists()


def test_noise_is_not_drawn_by_the_runs_seed(tmp_path):
    told = []
    for name in ("one", "other"):
        replies = {}
        run_quickly(tmp_path, name=name, num_rounds=0, tamper=record_replies(replies), **PRIVATE)
        told.append(array_of(replies["query.private_profile"][0], "counts"))
    assert (told[0] != told[1]).any()


def test_all_clients_without_a_model_of_the_warm_up_start_alike(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=0, **PRIVATE)
    first, *others = strategy.state.models
    assert all(model[part].equals(first[part]) for model in others for part in first)


# -- asked again -------------------------------------------------------------------------------


def ask(grid, request):
    """Ask the first node; the reply, or the error in its place."""
    node = min(grid.contexts)
    message = Message(request.encode(), node, request.action, group_id="1")
    message.metadata.__dict__["_message_id"] = "asked"
    return grid.answer(message)


def profile_request(strategy):
    return strategy.algorithm.newcomer_request(1, "client-0")


def test_a_client_that_is_asked_again_says_the_same_and_the_ledger_counts_it(tmp_path, caplog):
    replies = {}
    strategy, grid = run_quickly(tmp_path, num_rounds=0, tamper=record_replies(replies), **PRIVATE)
    before = {
        key: array_of(replies["query.private_profile"][0], key)
        for key in ("counts", "vectors", "vector-classes")
    }
    again = ask(grid, profile_request(strategy))
    for key, values in before.items():
        np.testing.assert_array_equal(array_of(again, key), values)
    told = strategy.context.ledger.summary()
    assert told["most-profiles-of-a-client"] == 2
    assert told["epsilon"] == pytest.approx(TWO, rel=1e-6)
    assert f"client client-0 is asked for its private profile 2 times: epsilon {TWO:.3g}" in (
        caplog.text
    )


def test_a_client_with_other_data_says_no_more(tmp_path):
    strategy, grid = run_quickly(tmp_path, num_rounds=0, **PRIVATE)
    nodes = sorted(grid.contexts)
    grid.contexts[nodes[0]].state = grid.contexts[nodes[1]].state
    refused = ask(grid, profile_request(strategy))
    assert "a second profile would cost more than profile-epsilon" in refused.error.reason


@pytest.mark.parametrize("changes", [{}, {"unlabelled": "place"}])
def test_a_client_refuses_a_profile_without_noise(tmp_path, changes):
    _, grid = run_quickly(tmp_path, num_rounds=0, **PRIVATE)
    other, plain = run_quickly(tmp_path, name="plain", num_rounds=0, **OTHERWISE | changes)
    request = profile_request(other)  # of a server that asks for more than it said
    assert not ask(plain, request).has_error()
    assert "no profile without noise is sent" in ask(grid, request).error.reason


def test_a_client_refuses_to_tell_of_drift(tmp_path):
    strategy, grid = run_quickly(tmp_path, num_rounds=1, **PRIVATE)
    request = strategy.algorithm.train_request(2, "client-0")
    assert not ask(grid, request).has_error()
    asked = replace(request, header=replace(request.header, reference=(1,) * 10))
    assert "asks about drift" in ask(grid, asked).error.reason


def test_a_newcomer_is_counted_once(tmp_path):
    settings = quick_settings(run_dir=str(tmp_path), min_clients=4, num_rounds=3, **PRIVATE)
    grid = MemoryGrid(settings)
    let_come_later(grid, {sorted(grid.contexts)[-1]})
    run_quickly(tmp_path, grid=grid, min_clients=4, num_rounds=3, **PRIVATE)
    lines = (tmp_path / "run" / PRIVACY).read_text().splitlines()
    asked = [json.loads(line) for line in lines]
    assert [each["round"] for each in asked if each["client"] == "client-5"] != [0]
    assert summary_of(tmp_path)["privacy"]["most-profiles-of-a-client"] == 1


def test_a_client_whose_vectors_are_too_long_is_left_out(tmp_path, caplog):
    def tamper(partition, action, reply):
        if partition == 2 and action == "query.private_profile":
            replace_array(reply, "vectors", np.ones((1, 784), np.float32))
            replace_array(reply, "vector-classes", np.zeros(1, np.int64))
        return reply

    strategy, _ = run_quickly(tmp_path, num_rounds=0, tamper=tamper, **PRIVATE)
    assert "client-2" not in strategy.state.assignments
    assert "client client-2 is left out" in caplog.text


# -- stopped and resumed -----------------------------------------------------------------------

LASTING = {"observers": "round-log, checkpoints, closing-table", "num_rounds": 2}


def resumed(tmp_path, **changes):
    """Go on after round 1, with other rounds to come."""
    settings = quick_settings(**PRIVATE | LASTING | {"num_rounds": 3} | changes)
    settings = settings.changed({"resume": str(tmp_path / "run"), "run-dir": str(tmp_path)})
    strategy = open_run(settings)
    strategy.start(MemoryGrid(settings))
    return strategy


def test_a_resumed_run_knows_of_all_that_was_asked(tmp_path):
    run_quickly(tmp_path, **PRIVATE | LASTING)
    with (tmp_path / "run" / PRIVACY).open("a") as file:  # after the checkpoint, before the end
        file.write(json.dumps({"client": "client-3", "round": 9}) + "\n")
    resumed(tmp_path)
    told = summary_of(tmp_path)["privacy"]
    assert told["most-profiles-of-a-client"] == 2
    assert told["epsilon"] == pytest.approx(TWO, rel=1e-6)


@pytest.mark.parametrize("content", [None, '{"client": "client-1"', '{"round": 0}\n'])
def test_a_resumed_run_that_does_not_know_tells_no_epsilon(tmp_path, content):
    run_quickly(tmp_path, **PRIVATE | LASTING)
    path = tmp_path / "run" / PRIVACY
    path.unlink() if content is None else path.write_text(content)
    resumed(tmp_path)
    told = summary_of(tmp_path)["privacy"]
    assert told["epsilon"] is None
    assert "no epsilon can be told: privacy.jsonl cannot be read" in told["promise"]


def test_a_full_disk_costs_the_epsilon_and_not_the_run(tmp_path, monkeypatch):
    def full(self, name, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "append_now", full)
    strategy, _ = run_quickly(tmp_path, num_rounds=1, **PRIVATE)
    assert strategy.state.server_round == 1
    told = summary_of(tmp_path)["privacy"]
    assert told["epsilon"] is None
    assert "privacy.jsonl could not be written: No space left on device" in told["promise"]


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithm": "pacfl"}, "algorithm = 'pacfl': 'feddag' must be so"),
        ({"fusion": "entropy"}, "fusion = 'entropy': 'evidence' must be so"),
        ({"initialisation": "warm"}, "initialisation = 'warm': 'random' must be so"),
        ({"secondary_start": "warm"}, "secondary-start = 'warm': 'random' must be so"),
        ({"standardise": True}, "standardise = True: False must be so"),
        ({"unlabelled": "place"}, "unlabelled = 'place': 'refuse' must be so"),
        ({"looks_level": 1e-6}, "looks-level = 1e-06: 0.0 must be so"),
        ({"drift_threshold": 0.2}, "drift-threshold = 0.2: 0.0 must be so"),
        (
            {"view": "encoder", "view_weights": "w.pt", "view_digest": "0" * 8},
            "view = 'encoder': must not be so with profile-epsilon = 3",
        ),
        ({"validation_share": 0.1}, "validation-share = 0.1: 0.0 must be so"),
        (
            {"scenario": "own", "dataset": "npz", "modality": "tabular"},
            "modality = 'tabular': 'image' must be so",
        ),
        ({"scenario": "own", "dataset": "npz"}, "class-names = '': must name the classes"),
    ],
)
def test_settings_that_would_break_the_promise_are_refused(changes, words):
    with pytest.raises(SettingsError) as error:
        quick_settings(**PRIVATE | changes)
    assert [line for line in str(error.value).splitlines() if words in line]
    assert "profile-epsilon = 3" in str(error.value)
    off = PRIVATE | {"profile_epsilon": 0.0} | changes
    assert isinstance(quick_settings(**off), Settings)


def test_one_encoder_needs_no_second_start():
    quick_settings(**PRIVATE | {"secondary": "none", "secondary_start": "warm"})


def test_a_missing_accountant_is_told_before_a_client_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'feddag-flwr\[privacy\]'"):
        run_quickly(tmp_path, **PRIVATE)


def own_data(tmp_path, **arrays):
    for number in range(3):
        rng = np.random.default_rng(number)
        images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
        more = {key: make(rng) for key, make in arrays.items()}
        (tmp_path / "sites").mkdir(exist_ok=True)
        np.savez(
            tmp_path / "sites" / f"{number}.npz", images=images, labels=np.arange(40) % 2,
            class_names=np.array(["ape", "bee"]), **more,
        )  # fmt: skip
    return {
        "scenario": "own", "dataset": "npz", "data_dir": str(tmp_path / "sites"), "num_clients": 3,
        "class_names": "ape,bee", "model": "small", "num_rounds": 0, "client_groups": 1,
    }  # fmt: skip


def test_own_data_needs_a_test_part_that_no_sample_decides(tmp_path, caplog):
    with pytest.raises(Exception, match="0 usable clients of 3 nodes"):
        run_quickly(tmp_path, **PRIVATE | own_data(tmp_path))
    assert "has no test part, and one sample more would change" in caplog.text
    given = own_data(
        tmp_path,
        test_images=lambda rng: rng.integers(0, 256, (6, 8, 8), dtype=np.uint8),
        test_labels=lambda _: np.arange(6) % 2,
    )
    strategy, _ = run_quickly(tmp_path, name="given", **PRIVATE | given)
    assert len(strategy.state.assignments) == 3
