"""Ditto: its step by hand, its two limits, and what a run does with personal models."""

import json

import numpy as np
import pytest
import torch
from memory_grid import TRAINING, quick_settings, replace_array, run_quickly
from torch import nn

from feddag_flwr.algorithms.ditto.local_training import PulledTraining
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.optimisers.sgd import SGD
from feddag_flwr.trainers import TrainJob
from feddag_flwr.training.device import Samples

pytestmark = pytest.mark.integration

RATE = 0.1
ALL = {"participation": 1.0, "num_rounds": 3, "evaluate_every": 3}


class HalfSquare:
    """A loss whose gradient at the logits z (n, 1) is z - 1, so that it is known by hand."""

    def loss(self, logits, labels, weights=None):
        return ((logits - 1) ** 2).sum(dim=1).mean() / 2


def linear(value):
    """Encoder x -> a x and classifier z -> b z, both of weight `value`; the bias stays 0."""
    encoder = nn.Linear(1, 1, bias=False)
    encoder.feature_size = 1
    model = ClusterModel(encoder, None, 1)
    head = model.classifier.primary_head
    head.bias.requires_grad_(False)
    with torch.no_grad():
        head.bias.zero_()
        for weight in (encoder.weight, head.weight):
            weight.fill_(value)
    return model


def trained(start, anchor, weight, steps):
    """Train from `start`, pulled to `anchor`, on one sample x = 1; return both weights."""
    pulled = PulledTraining.to_present(weight, linear(anchor))
    model = linear(start)
    samples = Samples(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))
    settings = quick_settings(learning_rate=RATE, momentum=0.0, weight_decay=0.0, batch_size=1)
    config = LocalTrainingConfig.of(settings.training).with_epochs(steps)
    TrainJob(model, samples, config, HalfSquare(), SGD, np.random.default_rng(0), pulled).run()
    return [float(each.detach()) for each in model.parameters() if each.requires_grad]


def test_a_step_by_hand():
    """At a = b = 2 the loss (ab - 1)^2 / 2 has the gradient (ab - 1) b = 6 in a, and in b.

    With lambda = 3 and w = 1 the pull is 3 (2 - 1) = 3, so a step of 0.1 goes to 2 - 0.9 = 1.1.
    The next gradient is (1.21 - 1) 1.1 = 0.231, the pull 0.3: 1.1 - 0.0531 = 1.0469.
    """
    assert trained(2.0, 1.0, 3.0, 1) == pytest.approx([1.1, 1.1], abs=1e-6)
    assert trained(2.0, 1.0, 3.0, 2) == pytest.approx([1.0469, 1.0469], abs=1e-6)


def test_without_a_pull_it_is_training_alone_and_with_a_strong_one_the_global_model():
    alone = trained(2.0, 1.5, 0.0, 200)
    assert alone == pytest.approx([1.0, 1.0], abs=1e-4)  # where ab = 1
    # At rest lambda (v - w) = -grad F(v), so that v - w falls as 1 / lambda.
    distances = [abs(trained(2.0, 1.5, weight, 200)[0] - 1.5) for weight in (1.0, 3.0, 9.0)]
    assert distances[0] > distances[1] > distances[2]
    v = trained(2.0, 1.5, 9.0, 200)[0]
    assert 9.0 * (1.5 - v) == pytest.approx((v * v - 1) * v, rel=1e-4)


def floats(model):
    return np.concatenate([model[part].floats for part in ("primary", "classifier")])


def test_the_global_model_is_fedavg_s_and_without_a_pull_the_own_one_is_trained_alone(tmp_path):
    ditto, _ = run_quickly(tmp_path, name="d", algorithm="ditto", ditto_lambda=0.0, **ALL)
    fedavg, _ = run_quickly(tmp_path, name="f", algorithm="fedavg", **ALL)
    alone, _ = run_quickly(tmp_path, name="a", algorithm="local", **ALL)
    assert (floats(ditto.state.models[0]) == floats(fedavg.state.models[0])).all()
    assert len(ditto.algorithm.personal) == 6
    for name, model in ditto.algorithm.personal.items():
        assert (floats(model) == floats(alone.algorithm.model_of(name))).all()
    one, other = ditto.evaluator.evaluations, alone.evaluator.evaluations
    for name in one:
        assert one[name].figures() == other[name].figures()


def test_a_pull_brings_personal_models_nearer_to_the_global_one(tmp_path):
    def distance(weight):
        name = f"pull-{weight}"
        run, _ = run_quickly(tmp_path, name=name, algorithm="ditto", ditto_lambda=weight, **ALL)
        common = floats(run.state.models[0])
        return np.mean(
            [np.linalg.norm(floats(v) - common) for v in run.algorithm.personal.values()]
        )

    free, near, nearest = (distance(weight) for weight in (0.0, 1.0, 10.0))
    assert free > near > nearest


def test_who_never_took_part_is_judged_by_the_global_model(tmp_path):
    run, _ = run_quickly(tmp_path, algorithm="ditto", participation=0.34, num_rounds=1)
    drawn = set(run.algorithm.personal)
    assert len(drawn) == 2
    for name in run.state.clients:
        judged = run.algorithm.judged_model_of(name)
        expected = run.algorithm.personal.get(name, run.state.models[0])
        assert (floats(judged) == floats(expected)).all()


def test_a_personal_model_that_cannot_be_used_costs_that_update_alone(tmp_path, caplog):
    def tamper(partition, action, message):
        if partition == 0 and action in TRAINING:
            size = message.content.array_records["arrays"]["personal-primary.floats"].numpy().shape
            return replace_array(message, "personal-primary.floats", np.full(size, np.nan, "f4"))
        return message

    run, _ = run_quickly(tmp_path, tamper=tamper, algorithm="ditto", **ALL)
    assert "train: client client-0 is left out" in caplog.text
    assert sorted(run.algorithm.personal) == [f"client-{i}" for i in range(1, 6)]
    assert len(run.evaluator.evaluations) == 6


def test_bytes_by_hand(tmp_path):
    run, _ = run_quickly(
        tmp_path, algorithm="ditto", participation=1.0, num_rounds=1, evaluate_participants=False
    )
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    one = sum(part.nbytes for part in run.state.models[0].values()) + 2 * 128
    assert line["bytes"]["down"] == {"train": 6 * 2 * one, "evaluate": 6 * one}
    assert line["bytes"]["up"]["train"] == 6 * 2 * one
