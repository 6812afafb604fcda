import numpy as np
import pytest
import torch
from torch.nn import functional
from train_jobs import train_primary, train_secondary

from feddag_flwr.algorithms.feddag.local_training import diversity_penalty
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.settings import Settings
from feddag_flwr.training.local import batches

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")
SCALE = ((0.5, 0.25),)


def make_samples(count=20, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8))
    return Image().to_device(CPU, LabelledSamples(images.numpy(), rng.integers(0, 3, count)), SCALE)


def make_model(dual=True):
    return build_model("small", SHAPE, 3, dual=dual, seed=1)


def settings(**changes):
    return Settings.from_run_config(
        {key.replace("_", "-"): value for key, value in changes.items()}
    )


def changed(before, after):
    return {part for part in before if (before[part].floats != after[part].floats).any()}


@pytest.mark.parametrize(
    ("count", "size"), [(1, 64), (64, 64), (65, 64), (130, 64), (7, 3), (7, 1)]
)
def test_batches_hold_every_sample_once_and_no_lone_last_one(count, size):
    pieces = list(batches(count, size, np.random.default_rng(0)))
    assert sorted(torch.cat(pieces).tolist()) == list(range(count))
    if size > 1 and count > 1:
        assert min(len(piece) for piece in pieces) > 1


def test_primary_phase_trains_p_and_k_with_s_frozen():
    model = make_model()
    before = get_parts(model)
    train_primary(model, make_samples(), settings(), np.random.default_rng(0), epochs=1)
    assert changed(before, get_parts(model)) == {"primary", "classifier"}


def test_secondary_phase_trains_s_with_p_and_k_frozen():
    model = make_model()
    before = get_parts(model)
    train_secondary(model, make_samples(), settings(), np.random.default_rng(0), epochs=1)
    assert changed(before, get_parts(model)) == {"secondary"}
    assert all(p.requires_grad for p in model.parameters())


def test_by_halves_each_phase_trains_an_encoder_and_its_half_of_k():
    model = make_model()
    before = {name: value.clone() for name, value in model.named_parameters()}

    def moved():
        return {
            name.rpartition(".")[0].split(".")[0] + ("." + name.split(".")[1]) * ("cla" in name)
            for name, value in model.named_parameters()
            if (value != before[name]).any()
        }

    rng = np.random.default_rng(0)
    train_primary(model, make_samples(), settings(), rng, epochs=1, separate_heads=True)
    assert moved() == {"primary", "classifier.primary_head"}
    before = {name: value.clone() for name, value in model.named_parameters()}
    train_secondary(model, make_samples(), settings(), rng, epochs=1, separate_heads=True)
    assert moved() == {"secondary", "classifier.secondary_head"}


@pytest.mark.parametrize("phase", ["primary", "secondary"])
def test_by_halves_local_training_is_sgd_on_the_half_s_own_loss(phase):
    values = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.01, "batch_size": 64}
    model, expected = make_model(), make_model()
    samples, rng = make_samples(), np.random.default_rng(0)
    train = train_primary if phase == "primary" else train_secondary
    train(model, samples, settings(**values), rng, epochs=3, separate_heads=True)
    encoder = getattr(expected, phase)
    head = getattr(expected.classifier, f"{phase}_head")
    alone = torch.nn.Sequential(encoder, head)  # as if there were no other encoder
    reference_step(alone, list(alone.parameters()), samples, 0.1, 0.5, 0.01, 3)
    for part, found in get_parts(model).items():
        np.testing.assert_allclose(found.floats, get_parts(expected)[part].floats, atol=1e-5)


def test_by_halves_the_primary_phase_looks_at_s_for_the_penalty_alone():
    results = []
    for seed, diversity in ((1, 0.0), (2, 0.0), (1, 0.7), (2, 0.7)):
        model = make_model()
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.secondary[5].weight)
        values = settings(diversity=diversity)
        train_primary(
            model, make_samples(), values, np.random.default_rng(0), 1, separate_heads=True
        )
        results.append(get_parts(model)["primary"].floats)
    assert (results[0] == results[1]).all()
    assert (results[2] != results[3]).any()


def reference_step(model, parameters, samples, lr, momentum, decay, steps, penalty=0.0):
    """SGD with momentum written out, on the loss of the whole model without any caching."""
    velocity = [torch.zeros_like(p) for p in parameters]
    for _ in range(steps):
        inputs = samples.inputs(slice(None))
        loss = functional.cross_entropy(model(inputs), samples.labels)
        if penalty:
            one, two = model.primary(inputs), model.secondary(inputs).detach()
            cosine = (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1))
            loss = loss + penalty * (cosine**2).mean()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g, v in zip(parameters, gradients, velocity, strict=True):
                v.mul_(momentum).add_(g + decay * p)
                p.sub_(lr * v)


@pytest.mark.parametrize("phase", ["primary", "secondary", "single", "diverse"])
def test_local_training_is_sgd_on_the_whole_models_loss(phase):
    values = {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.01, "batch_size": 64}
    if phase == "diverse":
        values["diversity"] = 0.7
    dual = phase != "single"
    model, expected = make_model(dual), make_model(dual)
    samples, rng = make_samples(), np.random.default_rng(0)
    if phase == "secondary":
        train_secondary(model, samples, settings(**values), rng, epochs=3)
        parameters = list(expected.secondary.parameters())
    else:
        train_primary(model, samples, settings(**values), rng, epochs=3)
        parameters = [*expected.primary.parameters(), *expected.classifier.parameters()]
    # One batch holds all 20 samples, so an epoch is a step and the order does not matter.
    reference_step(expected, parameters, samples, 0.1, 0.5, 0.01, 3, values.get("diversity", 0.0))
    for part, weights in get_parts(model).items():
        np.testing.assert_allclose(weights.floats, get_parts(expected)[part].floats, atol=1e-5)


def test_diversity_penalty_by_hand():
    one = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    two = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    # cos = 0 and 1 / sqrt(2): mean of squares (0 + 0.5) / 2
    assert diversity_penalty(one, two).item() == pytest.approx(0.25)


def test_training_repeats_to_the_bit():
    results = []
    for _ in range(2):
        model = make_model()
        train_primary(model, make_samples(50), settings(), np.random.default_rng(3), epochs=2)
        train_secondary(model, make_samples(50), settings(), np.random.default_rng(4), epochs=2)
        results.append(get_parts(model))
    for part in results[0]:
        assert (results[0][part].floats == results[1][part].floats).all()


def test_a_single_encoder_has_no_secondary_phase():
    with pytest.raises(ValueError, match="needs a secondary encoder"):
        train_secondary(make_model(False), make_samples(), settings(), np.random.default_rng(0), 1)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint8, 51), (np.float32, 0.2)])
def test_inputs_are_standardised_a_channel(dtype, value):
    # Pixels of 0.2: first channel (0.2 - 0.1) / 0.5 = 0.2, second (0.2 - 0.6) / 0.4 = -1
    data = LabelledSamples(np.full((2, 2, 3, 3), value, dtype), np.zeros(2, np.int64))
    inputs = Image().to_device(CPU, data, ((0.1, 0.5), (0.6, 0.4))).inputs(slice(None))
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 0], torch.full((2, 3, 3), 0.2))
    torch.testing.assert_close(inputs[:, 1], torch.full((2, 3, 3), -1.0))
