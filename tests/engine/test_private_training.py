"""Whole runs with private training: what travels, what is promised, what a stopped run knows."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message
from memory_grid import MemoryGrid, quick_settings, run_quickly
from private_jobs import BOTH, TRAINED

from feddag_flwr.engine.runs import build_strategy, check_parts, open_run
from feddag_flwr.engine.strategy import ClusteredStrategy
from feddag_flwr.federation.errors import FederationError
from feddag_flwr.models.errors import ModelError
from feddag_flwr.privacy import budget
from feddag_flwr.privacy.training import PrivacyCosts, Spent
from feddag_flwr.records import CandidateLossesRequest, ValidationLossesRequest
from feddag_flwr.run_folder import PRIVACY, SUMMARY, RunFolder
from feddag_flwr.settings import Settings, SettingsError

pytestmark = pytest.mark.integration
ALWAYS = {"participation": 1.0}


def summary_of(tmp_path, name="run"):
    return json.loads((tmp_path / name / SUMMARY).read_text())


def lines_of(tmp_path, name="run"):
    return [json.loads(line) for line in (tmp_path / name / PRIVACY).read_text().splitlines()]


def costs_of(**changes):
    return PrivacyCosts.of(quick_settings(**changes))


def record_replies(replies):
    def tamper(partition, action, reply):
        replies.setdefault(action, []).append((partition, reply))
        return reply

    return tamper


@pytest.mark.parametrize("kind", [TRAINED, BOTH, TRAINED | {"algorithm": "fedprox"},
                                  TRAINED | {"algorithm": "oracle"}])  # fmt: skip
def test_a_run_promises_what_its_settings_say(tmp_path, caplog, capsys, kind):
    caplog.set_level(logging.INFO, "flwr")
    run_quickly(tmp_path, **kind | ALWAYS)
    told, costs = summary_of(tmp_path)["privacy"], costs_of(**kind | ALWAYS)
    assert told["epsilon"] == pytest.approx(costs.epsilon(costs.planned))
    if kind is not BOTH:
        assert 2.97 < told["epsilon"] <= 3.0
    assert told["most-steps-of-a-client"] == costs.planned.steps
    assert told["noise-multiplier"] == costs.training.noise
    what = "profile and training" if kind is BOTH else "training"
    sentence = f"epsilon {told['epsilon']:.3g} at delta 1e-05 covers each client's {what}, for one"
    assert told["promise"].startswith(sentence)
    assert sentence in caplog.text
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert f"noise multiplier {costs.training.noise:.3g}" in caplog.text


def test_epsilon_is_of_the_client_that_was_asked_most(tmp_path):
    run_quickly(tmp_path, **TRAINED | {"participation": 0.34, "num_rounds": 4, "seed": 4})
    steps = {}
    for line in lines_of(tmp_path):
        steps[line["client"]] = steps.get(line["client"], 0) + line.get("steps", 0)
    most = max(steps.values())
    assert min(steps.values()) < most < 8
    costs = costs_of(**TRAINED | {"num_rounds": 4})
    told = summary_of(tmp_path)["privacy"]["epsilon"]
    assert told == pytest.approx(costs.epsilon(Spent(0, 1, most)))
    assert told < 3.0


def test_no_number_of_samples_leaves_a_client_without_noise_and_the_noisy_one_stays(tmp_path):
    replies = {}
    changes = TRAINED | ALWAYS | {"training_epsilon": 0.5}  # noise of 22
    strategy, _ = run_quickly(tmp_path, tamper=record_replies(replies), **changes)
    told = {}
    for partition, reply in replies["train"]:
        assert set(reply.content["info"]) == {
            "client",
            "round",
            "transport",
            "parts",
            "samples",
            "drifted",
        }
        told.setdefault(partition, set()).add(reply.content["info"]["samples"])
    assert all(len(numbers) == 1 for numbers in told.values())
    plain, _ = run_quickly(tmp_path, name="plain", algorithm="fedavg", **ALWAYS)
    names = sorted(plain.state.clients)
    true = np.array([plain.state.clients[name].train_samples for name in names])
    noisy = np.array([strategy.state.clients[name].train_samples for name in names])
    assert [told[partition] for partition in range(6)] == [{number} for number in noisy.tolist()]
    assert (noisy != true).any()
    assert np.abs(noisy - true).max() < 6 * costs_of(**changes).training.number_noise
    for _, reply in replies["query.describe"]:
        assert reply.content["info"]["train-samples"] == 1


def test_a_client_that_has_told_its_number_is_not_asked_again(tmp_path):
    run_quickly(tmp_path, **TRAINED | ALWAYS)
    asked = [line["number"] for line in lines_of(tmp_path) if "steps" in line]
    assert asked == [1] * 6 + [0] * 6
    assert sum("samples" in line for line in lines_of(tmp_path)) == 6


def test_two_runs_of_a_seed_differ_by_their_noise(tmp_path):
    ended = []
    for name in ("one", "other"):
        strategy, _ = run_quickly(tmp_path, name=name, num_rounds=1, **TRAINED)
        ended.append(strategy.state.models[0]["classifier"].floats)
    assert (ended[0] != ended[1]).mean() > 0.99


def test_a_run_learns_where_epsilon_is_large(tmp_path):
    changes = {"training_epsilon": 20.0, "num_rounds": 12, "local_steps": 2, "learning_rate": 0.5}
    changes |= {"label_skew": 100.0, "client_groups": 1, "momentum": 0.0}
    run_quickly(tmp_path, **TRAINED | ALWAYS | changes)
    assert summary_of(tmp_path)["overall"]["accuracy"] > 0.5  # 0.1 by chance


# -- asked for more ----------------------------------------------------------------------------


def ask(grid, request):
    """Ask the first node; the reply, or the error in its place."""
    message = Message(request.encode(), min(grid.contexts), request.action, group_id="1")
    message.metadata.__dict__["_message_id"] = "asked"
    return grid.answer(message)


@pytest.mark.parametrize("kind", [TRAINED, BOTH])
def test_a_client_trains_no_more_often_than_is_promised(tmp_path, kind):
    strategy, grid = run_quickly(tmp_path, **kind | {"num_rounds": 1} | ALWAYS)
    request = strategy.algorithm.train_request(2, "client-0")
    assert "as often as is promised" in ask(grid, request).error.reason


def test_a_client_refuses_to_train_otherwise(tmp_path):
    changes = TRAINED | ALWAYS
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **changes)
    strategy = build_strategy(settings, RunFolder(settings))
    grid = MemoryGrid(settings)
    strategy.start(grid, num_rounds=1)
    request = strategy.algorithm.train_request(2, "client-0")

    def refused(**config):
        return ask(grid, replace(request, config=replace(request.config, **config))).error.reason

    assert "for 2 epochs, this client's training-epsilon for 1 epochs" in refused(epochs=2)
    assert "for 1 steps, this client's training-epsilon for 1 epochs" in refused(steps=1)
    assert "asks for losses" in refused(report_losses=True)
    assert "class weights or an augmentation" in refused(class_weights="balanced")
    evaluation = strategy.algorithm.evaluate_request(2, "client-0", 0)
    for asked in ({"adapt_epochs": 1}, {"personalisation_epochs": 1}):
        reason = ask(grid, replace(evaluation, **asked)).error.reason
        assert "training before an evaluation is not covered" in reason
    model = strategy.state.models[0]
    header = request.header
    for other in (
        CandidateLossesRequest(header, (model,)),
        ValidationLossesRequest(header, (model,), {}, trained_on=True),
    ):
        assert f"{other.action} is not answered" in ask(grid, other).error.reason
    told_as = replace(request, config=replace(request.config, samples_told=7))
    reply = ask(grid, told_as)  # and what is promised it still does
    assert reply.content["info"]["samples"] == 7


def test_more_rounds_than_the_settings_are_refused(tmp_path):
    settings = quick_settings(run_dir=str(tmp_path), **TRAINED)
    strategy = build_strategy(settings, RunFolder(settings))
    with pytest.raises(ValueError, match="training-epsilon is for num-rounds = 2"):
        strategy.start(MemoryGrid(settings), num_rounds=3)


# -- stopped and resumed -----------------------------------------------------------------------

LASTING = {"observers": "round-log, checkpoints, closing-table", **ALWAYS}


def stopped(tmp_path, kind):
    """Run one round of two."""
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **kind | LASTING)
    build_strategy(settings, RunFolder(settings)).start(MemoryGrid(settings), num_rounds=1)


def resumed(tmp_path, kind, **changes):
    """Go on, with clients that know of nothing."""
    settings = quick_settings(**kind | LASTING | changes)
    settings = settings.changed({"resume": str(tmp_path / "run"), "run-dir": str(tmp_path)})
    strategy = open_run(settings)
    strategy.start(MemoryGrid(settings))
    return strategy


@pytest.mark.parametrize("kind", [TRAINED, BOTH])
def test_a_resumed_run_counts_on(tmp_path, kind):
    stopped(tmp_path, kind)
    before = summary_of(tmp_path)["privacy"]
    resumed(tmp_path, kind)
    told, costs = summary_of(tmp_path)["privacy"], costs_of(**kind | LASTING)
    assert told["most-steps-of-a-client"] == 2 * before["most-steps-of-a-client"]
    assert told["epsilon"] == pytest.approx(costs.epsilon(costs.planned))
    asked = [line["number"] for line in lines_of(tmp_path) if "steps" in line]
    assert asked == [1] * 6 + [0] * 6


def test_rounds_that_are_done_again_cost_again(tmp_path, caplog):
    stopped(tmp_path, TRAINED)
    with (tmp_path / "run" / PRIVACY).open("a") as file:  # after the checkpoint, before the end
        for name in ("client-2", "client-3"):
            file.write(json.dumps({"client": name, "round": 2, "steps": 2, "number": 0}) + "\n")
    resumed(tmp_path, TRAINED)
    told, costs = summary_of(tmp_path)["privacy"], costs_of(**TRAINED | LASTING)
    assert told["epsilon"] == pytest.approx(costs.epsilon(Spent(0, 1, 6)))
    assert told["epsilon"] > 3.0
    assert "client client-2 has been asked for more than training-epsilon = 3 is for" in caplog.text


def test_a_run_goes_on_for_no_other_number_of_rounds(tmp_path):
    stopped(tmp_path, TRAINED)
    with pytest.raises(SettingsError, match="num-rounds = 3: the run to resume has 2, for which"):
        resumed(tmp_path, TRAINED, num_rounds=3)


@pytest.mark.parametrize("content", [None, '{"client": "client-1", "steps": "x"}\n'])
def test_a_resumed_run_that_does_not_know_tells_no_epsilon(tmp_path, content):
    stopped(tmp_path, TRAINED)
    path = tmp_path / "run" / PRIVACY
    path.unlink() if content is None else path.write_text(content)
    resumed(tmp_path, TRAINED)
    told = summary_of(tmp_path)["privacy"]
    assert told["epsilon"] is None
    assert "no epsilon can be told: privacy.jsonl cannot be read" in told["promise"]


def test_a_full_disk_costs_the_epsilon_and_not_the_run(tmp_path, monkeypatch):
    def full(self, name, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "append_now", full)
    strategy, _ = run_quickly(tmp_path, num_rounds=1, **TRAINED)
    assert strategy.state.server_round == 1
    assert summary_of(tmp_path)["privacy"]["epsilon"] is None


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(
            ({"algorithm": name}, f"algorithm = '{name}': must be one of feddag, fedavg")
            for name in (
                "local",
                "per-fedavg",
                "ditto",
                "pacfl",
                "ifca",
                "cfl",
                "cfl-gp",
                "fedsoft",
                "fedrc",
                "fedgwc",
            )
        ),
        ({"algorithm": "package.module:Own"}, "algorithm = 'package.module:Own': must be one of"),
        ({"algorithm": "feddag"}, "profile-epsilon = 0: must be above 0"),
        ({"compare": True}, "compare = True: False must be so"),
        ({"personalisation_epochs": 1}, "personalisation-epochs = 1: 0 must be so"),
        ({"augmentation": "standard"}, "augmentation = 'standard': 'none' must be so"),
        ({"class_weights": "balanced"}, "class-weights = 'balanced': 'none' must be so"),
        ({"judges": 3}, "judges = 3: 0 must be so"),
        ({"gradient_clipping": 1.0}, "gradient-clipping = 1.0: 0.0 must be so"),
        ({"mixed_precision": True}, "mixed-precision = True: False must be so"),
        ({"device_memory": 100}, "device-memory = 100: 0 must be so"),
        ({"trainer": "package.module:own"}, "trainer = 'package.module:own': 'sequential' must"),
        ({"standardise": True}, "standardise = True: False must be so"),
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
        quick_settings(**TRAINED | changes)
    assert [line for line in str(error.value).splitlines() if words in line]
    assert "training-epsilon = 3" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"), [("compare", True), ("class_weights", "balanced"), ("standardise", True)]
)
def test_they_are_fine_without_it(key, value):
    changes = TRAINED | {"training_epsilon": 0.0, key: value}
    assert isinstance(quick_settings(**changes), Settings)


def test_profiles_are_refused_once_for_the_same_reason():
    with pytest.raises(SettingsError) as error:
        quick_settings(**BOTH | {"standardise": True})
    assert len(str(error.value).splitlines()) == 1


def test_batch_norm_is_refused_before_a_client_starts(tmp_path):
    changes = TRAINED | {"model": "resnet18", "image_size": 32}
    with pytest.raises(Exception, match=r"'resnet18': trunk.bn1 is batch norm.*'group'"):
        check_parts(quick_settings(**changes))
    check_parts(quick_settings(**changes | {"normalisation_layer": "group"}))


def test_ones_own_encoder_is_looked_at_before_anybody_trains(tmp_path):
    settings = quick_settings(run_dir=str(tmp_path), model="private_jobs:BatchNormed", **TRAINED)
    grid, strategy = MemoryGrid(settings), build_strategy(settings, RunFolder(settings))
    with pytest.raises(ModelError, match="1 is batch norm, which mixes samples"):
        strategy.start(grid)
    assert {action for action, _ in grid.sent} == {"query.describe"}


def test_a_client_looks_at_it_for_itself(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ClusteredStrategy, "_check_private_training", lambda self, model: None)
    with pytest.raises(FederationError, match="no client sent a valid reply"):
        run_quickly(tmp_path, model="private_jobs:BatchNormed", **TRAINED)
    assert "1 is batch norm, which mixes samples" in caplog.text


def test_a_missing_accountant_is_told_before_a_client_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"training-epsilon = 3: .*pip install"):
        run_quickly(tmp_path, **TRAINED)


def test_own_data_needs_a_test_part_that_no_sample_decides(tmp_path, caplog):
    (tmp_path / "sites").mkdir()
    for number in range(3):
        images = np.random.default_rng(number).integers(0, 256, (40, 8, 8), dtype=np.uint8)
        np.savez(
            tmp_path / "sites" / f"{number}.npz", images=images, labels=np.arange(40) % 2,
            class_names=np.array(["ape", "bee"]),
        )  # fmt: skip
    own = {
        "scenario": "own", "dataset": "npz", "data_dir": str(tmp_path / "sites"), "num_clients": 3,
        "class_names": "ape,bee", "model": "small", "client_groups": 1,
    }  # fmt: skip
    with pytest.raises(Exception, match="0 usable clients of 3 nodes"):
        run_quickly(tmp_path, **TRAINED | own)
    assert "training-epsilon needs data with a test part of its own" in caplog.text
