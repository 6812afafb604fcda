"""One model for all and one of each client's own, trained beside a run."""

import json
import logging
from functools import partial

import numpy as np
import pytest
import torch
from memory_grid import failed, quick_settings, run_quickly
from pydantic import ValidationError
from torch import nn

from feddag_flwr.aggregation import weighted_mean
from feddag_flwr.client.session import ClientSession
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.engine.comparison import SHARE, Comparison
from feddag_flwr.modalities import load_modality
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model

pytestmark = pytest.mark.integration

COMPARED = {"compare": True, "compare_every": 1}
OBSERVED = {"observers": "round-log, checkpoints, closing-table"}


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").open()]


def summary(path):
    return json.loads((path / "summary.json").read_text())


def without(line):
    return {key: value for key, value in line.items() if not key.startswith("comparison")}


@pytest.mark.parametrize("algorithm", ["feddag", "ifca"])
def test_the_run_itself_is_the_same_to_the_bit_and_its_bytes_are_its_own(tmp_path, algorithm):
    own = OBSERVED | {"algorithm": algorithm, "num_rounds": 4, "evaluate_every": 3}
    plain, _ = run_quickly(tmp_path, name="plain", grid_seed=1, **own)
    beside, _ = run_quickly(tmp_path, name="beside", **own, compare=True, compare_every=2)
    one, two = plain.folder.path, beside.folder.path
    noted = lines(two)
    assert [without(line) for line in noted] == lines(one)
    for first, second in zip(plain.state.models, beside.state.models, strict=True):
        assert all(weights.equals(second[part]) for part, weights in first.items())
    assert plain.state.assignments == beside.state.assignments
    found = summary(two)
    compared = found.pop("comparison")
    assert found == summary(one)
    # Turns are in the second half, in every second round: in round 4, and those are judged there.
    assert [line["round"] for line in noted if "comparison" in line] == [4]
    sent = sum(
        line[key]["bytes-sent"] for line in noted for key in line if key.startswith("comparison")
    )
    assert compared["bytes-sent-per-client"] == round(sent / len(beside.state.clients)) > 0


def torch_training(context, parts, data, settings, epochs):
    """Full-batch SGD in plain PyTorch."""
    model, samples = single_model(context, parts), on_cpu(context, data.train)
    training = settings.training
    optimiser = torch.optim.SGD(
        model.parameters(),
        training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )
    everything = torch.arange(len(data.train))
    for _ in range(epochs):
        optimiser.zero_grad()
        logits = model(samples.inputs(everything))
        nn.functional.cross_entropy(logits, samples.labels).backward()
        optimiser.step()
    return model


def single_model(context, parts):
    state = context.state
    model = build_model("auto", state.sample_shape, len(state.class_names), dual=False, seed=0)
    ClientSession.fill(model, parts)
    return model


def on_cpu(context, data):
    modality = load_modality("image")
    return modality.to_device(torch.device("cpu"), data, context.state.sample_scale)


def balanced_accuracy(context, model, data):
    samples = on_cpu(context, data.test)
    with torch.no_grad():
        guesses = model(samples.inputs(torch.arange(len(data.test)))).argmax(dim=1).numpy()
    labels = samples.labels.numpy()
    return np.mean([(guesses[labels == c] == c).mean() for c in np.unique(labels)])


def test_the_figures_are_those_of_the_same_training_done_apart(tmp_path):
    """One model by FedAvg and one a client, from the clusters' mean, in plain PyTorch."""
    settings = {
        "algorithm": "oracle", "num_rounds": 1, "participation": 1.0, "local_epochs": 10,
        "batch_size": 10_000, "learning_rate": 0.05,
    }  # fmt: skip
    strategy, _ = run_quickly(tmp_path, **settings, **COMPARED)
    context, state = strategy.context, strategy.state
    epochs = {model: round(share * 10) for model, share in SHARE.items()}
    counts = [sum(c.train_samples for c in state.members(z)) for z in range(state.num_clusters)]
    start = {
        part: weighted_mean([model[part] for model in state.models], counts)
        for part in state.models[0]
    }
    data, own, sent = {}, {}, []
    for number, name in enumerate(sorted(state.clients)):
        place = {"partition-id": number, "num-partitions": len(state.clients)}
        data[name] = load_client_data(context.settings, place)
        assert data[name].name == name
        train = partial(torch_training, context, start, data[name], context.settings)
        own[name] = train(epochs["alone"])
        sent.append(get_parts(train(epochs["one-model"])))
    samples = [len(data[name].train) for name in own]
    everyone = {part: weighted_mean([each[part] for each in sent], samples) for part in start}
    for part, weights in everyone.items():
        ours = strategy.comparison.arrays()["comparison.one-model"][f"{part}.floats"]
        np.testing.assert_allclose(ours, weights.floats, atol=1e-5)
    one = single_model(context, everyone)
    clients = summary(strategy.folder.path)["comparison"]["clients"]
    for name, figures in clients.items():
        assert figures["alone"] == pytest.approx(balanced_accuracy(context, own[name], data[name]))
        assert figures["one-model"] == pytest.approx(balanced_accuracy(context, one, data[name]))
    assert len({figures["alone"] for figures in clients.values()}) > 1


def test_a_client_that_fails_in_it_loses_that_alone(tmp_path, caplog):
    def tamper(partition, action, reply):  # FedDAG's own rounds are "train.dual"
        return failed(reply) if action == "train" and partition == 3 else reply

    own = {"num_rounds": 2, "participation": 1.0} | COMPARED
    plain, _ = run_quickly(tmp_path, name="plain", **own | {"compare": False})
    with caplog.at_level(logging.WARNING, logger="flwr"):
        beside, _ = run_quickly(tmp_path, name="beside", tamper=tamper, **own)
    assert "train: client client-3 is left out" in caplog.text
    assert "comparison: no valid reply from client-3" in caplog.text
    noted = lines(beside.folder.path)
    assert [without(line) for line in noted] == lines(plain.folder.path)
    assert noted[-1]["comparison"]["failed"] == ["client-3"]
    assert noted[-1]["comparison"]["replied"] == 5
    assert summary(beside.folder.path)["comparison"]["not-compared"] == []


def test_a_client_whose_own_model_cannot_be_judged_is_not_compared(tmp_path):
    seen = []

    def tamper(partition, action, reply):  # the third evaluation is of its own model
        seen.extend(["evaluate"] * (action == "evaluate" and partition == 3))
        return (
            failed(reply) if action == "evaluate" and partition == 3 and len(seen) == 3 else reply
        )

    strategy, _ = run_quickly(tmp_path, tamper=tamper, **COMPARED)
    found = summary(strategy.folder.path)["comparison"]
    assert found["not-compared"] == ["client-3"]
    assert found["sentence"].endswith("not compared: 1")
    assert found["clients"]["client-3"]["alone"] is None
    assert found["clients"]["client-3"]["one-model"] is not None


def test_a_run_without_rounds_has_nothing_to_compare(tmp_path):
    strategy, _ = run_quickly(tmp_path, **COMPARED, num_rounds=0)
    assert summary(strategy.folder.path)["comparison"]["not-compared"] == [
        f"client-{i}" for i in range(6)
    ]


@pytest.mark.parametrize(("algorithm", "others"), [("fedavg", {"alone"}), ("local", {"one-model"})])
def test_what_the_algorithm_trains_itself_is_not_trained_again(tmp_path, algorithm, others):
    strategy, grid = run_quickly(
        tmp_path, algorithm=algorithm, **COMPARED, num_rounds=2, participation=1.0
    )
    found = summary(strategy.folder.path)["comparison"]
    assert found["mean"].keys() == {"clustered"} | others
    actions = [action for action, _ in grid.sent]
    # Two rounds, one of which has a turn; evaluated once, and once more for the other kind.
    assert actions.count("train") == (2 + (algorithm == "local")) * 6
    assert actions.count("evaluate") == 2 * 6
    assert all(found["clients"][name][other] >= 0 for name in found["clients"] for other in others)


def test_the_closing_table_says_it_and_is_silent_where_nothing_was_compared(tmp_path, capsys):
    strategy, _ = run_quickly(tmp_path, **COMPARED, participation=1.0)
    shown, found = capsys.readouterr().out, summary(strategy.folder.path)["comparison"]
    for line in (found["gain"], found["sentence"]):
        assert f"\n{line}\n" in shown
    assert "clustering pays for" in shown
    assert "over one model for all: " in shown or "to one model for all: " in shown
    strategy, _ = run_quickly(tmp_path, name="plain")
    assert "one model for all" not in capsys.readouterr().out
    assert "comparison" not in summary(strategy.folder.path)


def test_settings():
    assert not quick_settings().run.compare
    assert quick_settings().run.compare_every == 1
    with pytest.raises((ValidationError, ValueError), match="compare-every"):
        quick_settings(compare_every=0)


def test_the_one_model_is_judged_by_its_mean_over_the_last_quarter(tmp_path, monkeypatch):
    """Of eight rounds these are the last two; the mean stays out of what is trained on."""
    kept = {}
    train = Comparison._train_one

    def remember(comparison, server_round):
        told = train(comparison, server_round)
        kept[server_round] = comparison._models.one["primary"].floats
        return told

    monkeypatch.setattr(Comparison, "_train_one", remember)
    strategy, _ = run_quickly(tmp_path, **COMPARED, num_rounds=8)
    found = strategy.comparison.arrays()
    assert sorted(kept) == [5, 6, 7, 8]
    mean = (kept[7].astype(np.float64) + kept[8]) / 2
    np.testing.assert_allclose(
        found["comparison.one-model-mean"]["primary.floats"], mean, atol=1e-7
    )
    np.testing.assert_array_equal(found["comparison.one-model"]["primary.floats"], kept[8])
    assert not np.array_equal(kept[7], kept[8])
