"""What algorithms may ask of local training beyond plain SGD, against loops written out."""

import numpy as np
import pytest
import torch
from judgements import METRICS, loss_sum
from torch.nn import functional
from train_jobs import train_fomaml, train_primary

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.flat import get_parts, set_weights
from feddag_flwr.models.registry import build_model
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY
from feddag_flwr.settings import Settings
from feddag_flwr.trainers.descent import ProximalTerm
from feddag_flwr.training.local import FORWARD_CHUNK, batches, evaluate, sample_losses

SHAPE = (1, 8, 8)
RATE, MOMENTUM, DECAY = 0.05, 0.5, 0.01


@pytest.fixture(autouse=True)
def one_thread():
    """As on a client; on a busy machine more threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_samples(count=20, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    scale = ((0.5, 0.25),) * shape[0]
    return Image().to_device(
        torch.device("cpu"), LabelledSamples(images, rng.integers(0, 3, count)), scale
    )


def make_model(dual=False, shape=SHAPE, model="small", seed=1):
    return build_model(model, shape, 3, dual=dual, seed=seed)


def make_settings(**changes):
    values = {
        "learning_rate": RATE,
        "momentum": MOMENTUM,
        "weight_decay": DECAY,
        "batch_size": 8,
    } | changes
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


def loss_of(model, samples, index):
    return functional.cross_entropy(model(samples.inputs(index)), samples.labels[index])


def sgd(parameters, gradients, velocity):
    """One step of SGD with momentum and weight decay, in place."""
    with torch.no_grad():
        for p, g, v in zip(parameters, gradients, velocity, strict=True):
            v.mul_(MOMENTUM).add_(g + DECAY * p)
            p.sub_(RATE * v)


def assert_same(model, expected, tolerance=1e-6):
    found, wanted = get_parts(model), get_parts(expected)
    for part, weights in found.items():
        np.testing.assert_allclose(weights.floats, wanted[part].floats, atol=tolerance)


# -- the proximal term -----------------------------------------------------------------------------


def test_the_pulls_gradient_is_that_of_the_proximal_term():
    model, other = make_model(), make_model(seed=2)
    parameters = list(model.parameters())
    anchor = [p.detach().clone() for p in other.parameters()]
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.25)
    ProximalTerm(0.3, anchor).add_gradient(parameters)
    term = 0.15 * sum(((p - a) ** 2).sum() for p, a in zip(parameters, anchor, strict=True))
    for p, wanted in zip(parameters, torch.autograd.grad(term, parameters), strict=True):
        torch.testing.assert_close(p.grad, wanted + 0.25)


def test_frozen_parameters_are_not_pulled():
    model = make_model()
    parameters = list(model.parameters())
    ProximalTerm(1.0, [torch.zeros_like(p) for p in parameters]).add_gradient(parameters)
    assert all(p.grad is None for p in parameters)


def test_a_pulled_training_minimises_loss_and_proximal_term():
    """Against autograd on F(w) + mu/2 |w - anchor|^2, batch by batch."""
    model, expected, samples = make_model(), make_model(), make_samples()
    mu = 0.7
    anchor = [each.detach().clone() for each in model.parameters()]
    train_primary(model, samples, make_settings(), np.random.default_rng(3), 2, proximal=mu)
    parameters = list(expected.parameters())
    velocity, rng = [torch.zeros_like(p) for p in parameters], np.random.default_rng(3)
    for _ in range(2):
        for index in batches(20, 8, rng):
            distance = sum(((p - a) ** 2).sum() for p, a in zip(parameters, anchor, strict=True))
            value = loss_of(expected, samples, index) + mu / 2 * distance
            sgd(parameters, torch.autograd.grad(value, parameters), velocity)
    assert_same(model, expected)


def test_a_stronger_pull_keeps_the_model_nearer_to_its_anchor():
    lengths = []
    for mu in (0.0, 1.0, 10.0):
        model, start = make_model(), make_model()
        rng = np.random.default_rng(0)
        train_primary(model, make_samples(), make_settings(), rng, 4, proximal=mu)
        found, before = get_parts(model), get_parts(start)
        lengths.append(
            sum(np.sum((found[part].floats - before[part].floats) ** 2) for part in found)
        )
    assert lengths[0] > 1.2 * lengths[1] > 1.2**2 * lengths[2] > 0


# -- first-order MAML ------------------------------------------------------------------------------


def reference_meta(model, samples, pairs, alpha):
    """Algorithm 1 of Fallah et al. 2020 with the first-order approximation, for given batches."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    for first, second in pairs:
        inner = torch.autograd.grad(loss_of(model, samples, first), parameters)
        fitted = make_model()
        with torch.no_grad():
            for f, p, g in zip(fitted.parameters(), parameters, inner, strict=True):
                f.copy_(p - alpha * g)
        outer = torch.autograd.grad(loss_of(fitted, samples, second), list(fitted.parameters()))
        sgd(parameters, outer, velocity)


@pytest.mark.parametrize(
    ("count", "epochs", "pairs"),
    [
        (16, 1, [(0, 1)]),  # two batches of 8: one pair
        (24, 1, [(0, 1)]),  # three: the odd one is left out
        (24, 2, [(0, 1), (2, 3), (4, 5)]),  # six: a pair may span two epochs
        (6, 1, [(0, 0)]),  # one batch: it serves as both
    ],
)
def test_the_meta_phase_is_first_order_maml(count, epochs, pairs):
    model, expected, samples = make_model(), make_model(), make_samples(count)
    alpha = 0.5
    train_fomaml(model, samples, make_settings(), np.random.default_rng(3), epochs, alpha)
    rng = np.random.default_rng(3)
    drawn = [index for _ in range(epochs) for index in batches(count, 8, rng)]
    reference_meta(expected, samples, [(drawn[a], drawn[b]) for a, b in pairs], alpha)
    assert_same(model, expected)
    # The inner step matters: without it the result is another.
    plain = make_model()
    train_fomaml(plain, samples, make_settings(), np.random.default_rng(3), epochs, 1e-9)
    assert np.abs(get_parts(plain)["primary"].floats - get_parts(model)["primary"].floats).max() > (
        1e-5
    )


def test_a_dual_encoder_has_no_meta_phase():
    with pytest.raises(ValueError, match="secondary encoder"):
        train_fomaml(
            make_model(dual=True), make_samples(), make_settings(), np.random.default_rng(0), 1, 0.1
        )


# -- losses ----------------------------------------------------------------------------------------


def test_sample_losses_are_the_cross_entropy_of_each_sample():
    model, samples = make_model(), make_samples(FORWARD_CHUNK + 3)
    found = sample_losses(model, samples, CROSS_ENTROPY)
    assert found.dtype == torch.float64
    assert found.shape == (FORWARD_CHUNK + 3,)
    with torch.no_grad():
        logits = model(samples.inputs(slice(None))).double().numpy()
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(len(logits)), samples.labels.numpy()]
    expected = np.log(np.exp(logits).sum(axis=1)) - chosen
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert float(found.sum()) == pytest.approx(
        loss_sum(evaluate(model, samples, 3, METRICS)), rel=1e-5
    )


def test_epoch_losses_are_the_mean_a_sample_while_training():
    model, expected, samples = make_model(), make_model(), make_samples()
    found = train_primary(model, samples, make_settings(), np.random.default_rng(3), 2)
    parameters = list(expected.parameters())
    velocity, rng = [torch.zeros_like(p) for p in parameters], np.random.default_rng(3)
    wanted = []
    for _ in range(2):
        total = 0.0
        for index in batches(20, 8, rng):  # 8, 8 and 4 samples: the last counts by half
            value = loss_of(expected, samples, index)
            total += float(value.detach()) * len(index)
            sgd(parameters, torch.autograd.grad(value, parameters), velocity)
        wanted.append(total / 20)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


# -- memory layout ---------------------------------------------------------------------------------


def in_channels_last(model):
    return model.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("model", "shape"), [("lenet", (1, 28, 28)), ("cnn3", (3, 8, 8))])
def test_a_channels_last_model_is_the_same_function(model, shape):
    plain = make_model(model=model, shape=shape)
    moved = in_channels_last(make_model(model=model, shape=shape))
    assert any(
        p.dim() == 4 and not p.is_contiguous() for p in moved.parameters()
    )  # the layout did change
    samples = make_samples(12, shape)
    with torch.no_grad():
        one, two = (each(samples.inputs(slice(None))) for each in (plain, moved))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    for each in (plain, moved):
        train_primary(each, samples, make_settings(), np.random.default_rng(0), 1)
    assert_same(moved, plain, tolerance=1e-5)


def test_flat_weights_do_not_depend_on_the_layout():
    shape = (3, 8, 8)
    plain = make_model(model="cnn3", shape=shape)
    moved = in_channels_last(make_model(model="cnn3", shape=shape, seed=2))
    for part, weights in get_parts(plain).items():
        set_weights(moved.parts()[part], weights)
    for part, weights in get_parts(moved).items():
        np.testing.assert_array_equal(weights.floats, get_parts(plain)[part].floats)
    for one, two in zip(moved.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, two)
