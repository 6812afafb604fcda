"""The ClientApp's answers to what algorithms beyond FedDAG ask."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Context, Message, RecordDict
from judgements import METRICS, hits, loss_sum
from memory_grid import quick_settings
from torch.nn import functional
from train_jobs import train_fomaml, train_primary

from client_app.app import app
from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.messages import DualEvaluateRequest
from feddag_flwr.algorithms.ifca.messages import ChoiceTrainRequest
from feddag_flwr.algorithms.pacfl.messages import VectorsRequest
from feddag_flwr.algorithms.per_fedavg.messages import FomamlTrainRequest
from feddag_flwr.client.session import WORST_LOSS
from feddag_flwr.data.pixels import unit_pixels
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import (
    CandidateLossesRequest,
    EvaluateRequest,
    Limits,
    LocalTrainingConfig,
    RequestHeader,
    TrainRequest,
)
from feddag_flwr.seeds import generator
from feddag_flwr.training.local import evaluate

SHAPE = (1, 8, 8)
HEADER = RequestHeader("client-2", 3, tuple(map(str, range(10))), SHAPE, ((0.3, 0.4),))
NODE = {"partition-id": 2, "num-partitions": 6}
SETTINGS = quick_settings()
DATA = load_client_data(SETTINGS, NODE)
TRAIN = Image().to_device(torch.device("cpu"), DATA.train, HEADER.sample_scale)
TEST = Image().to_device(torch.device("cpu"), DATA.test, HEADER.sample_scale)


def ask(content, kind):
    context = Context(1, 7, NODE, RecordDict(), SETTINGS.to_run_config())
    return app(Message(content, 7, kind), context).content


def make_model(seed=1):
    return build_model("small", SHAPE, 10, dual=False, seed=seed)


MODELS = tuple(get_parts(make_model(seed)) for seed in (1, 2, 3))
# Finite weights whose outputs overflow: a model that diverged.
DIVERGED = {part: Weights(weights.floats * np.float32(1e30)) for part, weights in MODELS[0].items()}


def reference_losses():
    """Loss of each training sample under each model, by plain PyTorch."""
    with torch.no_grad():
        return torch.stack(
            [
                functional.cross_entropy(
                    make_model(seed)(TRAIN.inputs(slice(None))), TRAIN.labels, reduction="none"
                )
                for seed in (1, 2, 3)
            ]
        )


def candidate_losses(models):
    request = CandidateLossesRequest(HEADER, models)
    return request.read_reply(ask(request.encode(), request.action), Limits(len(TRAIN)))


def test_models_are_measured_on_the_training_data():
    found, losses = candidate_losses(MODELS), reference_losses()
    np.testing.assert_allclose(found.losses, losses.mean(dim=1), rtol=1e-5)
    lowest = [int((losses.argmin(dim=0) == k).sum()) for k in range(3)]
    assert found.lowest.tolist() == lowest
    assert min(lowest) > 0


def test_of_equal_models_the_first_wins_every_sample():
    assert candidate_losses((MODELS[1], MODELS[1])).lowest.tolist() == [len(TRAIN), 0]


def test_a_diverged_model_has_the_worst_loss_and_not_none():
    found = candidate_losses((DIVERGED, MODELS[1]))
    assert found.losses[0] > 1e10
    assert found.losses.max() <= WORST_LOSS * (1 + 1e-9)
    assert found.losses[1] == pytest.approx(float(reference_losses()[1].mean()), rel=1e-5)
    assert found.lowest[1] > 0


CONFIG = LocalTrainingConfig.of(SETTINGS.training)


def train(request):
    content = ask(request.encode(), request.action)
    return request.read_reply(content, Limits(len(TRAIN) + len(TEST)))


def test_a_client_trains_the_candidate_of_lowest_training_loss():
    best = int(reference_losses().mean(dim=1).argmin())
    chosen = train(ChoiceTrainRequest(HEADER, MODELS, CONFIG))
    assert chosen.choice == best
    alone = train(TrainRequest(HEADER, MODELS[best], CONFIG))
    for part, weights in alone.parts.items():
        np.testing.assert_array_equal(chosen.parts[part].floats, weights.floats)
    assert hits(chosen.received) == hits(alone.received)


def test_a_diverged_candidate_is_not_chosen():
    reply = train(ChoiceTrainRequest(HEADER, (DIVERGED, MODELS[1]), CONFIG))
    assert reply.choice == 1


def test_the_proximal_term_pulls_to_the_weights_received():
    found = train(TrainRequest(HEADER, MODELS[0], replace(CONFIG, proximal=2.0)))
    model = make_model(1)
    rng = generator(SETTINGS.run.seed, "primary", server_round=3, client="client-2")
    train_primary(model, TRAIN, SETTINGS, rng, SETTINGS.training.local_epochs, proximal=2.0)
    for part, weights in get_parts(model).items():
        np.testing.assert_allclose(found.parts[part].floats, weights.floats, atol=1e-6)


def test_the_meta_phase_takes_its_inner_rate_from_the_recipe():
    found = train(FomamlTrainRequest(HEADER, MODELS[0], CONFIG, inner_rate=0.7))
    model = make_model()
    rng = generator(SETTINGS.run.seed, "primary", server_round=3, client="client-2")
    train_fomaml(model, TRAIN, SETTINGS, rng, SETTINGS.training.local_epochs, 0.7)
    for part, weights in get_parts(model).items():
        np.testing.assert_allclose(found.parts[part].floats, weights.floats, atol=1e-6)


def test_epoch_losses_come_back_where_they_are_asked_for():
    reply = train(TrainRequest(HEADER, MODELS[0], replace(CONFIG, report_losses=True)))
    assert 1.0 < reply.losses[0] < 3.0


def judged(adapt, tune):
    request = EvaluateRequest(HEADER, MODELS[0], adapt, tune, CONFIG)
    return request.read_reply(ask(request.encode(), "evaluate"), Limits(len(TEST)))


def fitted(model, epochs, purpose):
    rng = generator(SETTINGS.run.seed, purpose, server_round=3, client="client-2")
    train_primary(model, TRAIN, SETTINGS, rng, epochs)
    return evaluate(model, TEST, 10, METRICS)


def test_adapting_comes_before_the_judgement_and_tuning_after_it():
    model = make_model()
    plain = evaluate(model, TEST, 10, METRICS)
    adapted = fitted(model, 2, "adapt")
    personalised = fitted(model, 3, "fine-tune")
    found = judged(2, 3)
    assert loss_sum(found.evaluation) == pytest.approx(loss_sum(adapted), rel=1e-5)
    assert loss_sum(found.personalised) == pytest.approx(loss_sum(personalised), rel=1e-5)
    assert loss_sum(judged(0, 0).evaluation) == pytest.approx(loss_sum(plain), rel=1e-5)
    assert judged(0, 0).personalised is None
    assert loss_sum(personalised) < loss_sum(adapted) < loss_sum(plain)


@pytest.mark.parametrize("training", ["separate", "joint"])
def test_a_model_of_two_encoders_is_tuned_as_it_is_trained(training):
    model = build_model("small", SHAPE, 10, dual=True, seed=1)
    settings = quick_settings(classifier_training=training)
    request = DualEvaluateRequest(
        HEADER, get_parts(model), 0, 2, CONFIG, separate_heads=training == "separate"
    )
    context = Context(1, 7, NODE, RecordDict(), settings.to_run_config())
    content = app(Message(request.encode(), 7, "evaluate.dual"), context).content
    found = request.read_reply(content, Limits(len(TEST)))
    rng = generator(settings.run.seed, "fine-tune", server_round=3, client="client-2")
    train_primary(model, TRAIN, settings, rng, 2, separate_heads=training == "separate")
    assert loss_sum(found.personalised) == pytest.approx(
        loss_sum(evaluate(model, TEST, 10, METRICS)), rel=1e-5
    )


def test_vectors_are_the_leading_singular_vectors_of_all_data():
    found = VectorsRequest(HEADER, 3).read_reply(ask(HEADER.encode(), "query.vectors"), Limits(9))
    pixels = unit_pixels(DATA.train.samples).reshape(len(DATA.train), -1).astype(float)
    expected = np.linalg.svd(pixels.T, full_matrices=False)[0][:, :3].T
    assert found.shape == (3, 64)
    cosines = np.abs(np.sum(found * expected, axis=1))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-5)
