"""Private steps: gradients of single samples, what one of them can change, noise, and the draw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from privacy_noise import seeded_noise
from private_jobs import BARE, descend_linearly, private_job
from scipy.stats import kstest
from torch import nn
from torch.nn import functional

from feddag_flwr.algorithms.feddag.local_training import PrimaryPhase, SecondaryPhase
from feddag_flwr.models.registry import build_model
from feddag_flwr.optimisers.adamw import AdamW
from feddag_flwr.privacy.training import TrainingPlan
from feddag_flwr.trainers.descent import descend
from feddag_flwr.trainers.private_descent import SampleGradients, clipped_sum
from feddag_flwr.trainers.whole_model import WholeModel
from feddag_flwr.training.device import Samples

SHAPE, CLASSES = (1, 8, 8), 4


def samples_of(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(count, *SHAPE, generator=rng)
    return Samples(images, torch.arange(count) % CLASSES)


def model_of(*, dual=False, seed=1, model="small"):
    return build_model(model, SHAPE, CLASSES, dual=dual, seed=seed)


# -- gradients of single samples ---------------------------------------------------------------


def test_gradients_are_those_of_a_plain_loop():
    model, samples = model_of(), samples_of(7)

    def loss(index):
        return functional.cross_entropy(model(samples.inputs(index)), samples.labels[index])

    found = SampleGradients(model, loss)(torch.tensor([1, 3, 6]))
    assert {name.removeprefix("trained.") for name in found} == dict(
        model.named_parameters()
    ).keys()
    for row, number in enumerate([1, 3, 6]):
        model.zero_grad()
        loss(torch.tensor([number])).backward()
        for name, parameter in model.named_parameters():
            each = found[f"trained.{name}"][row]
            torch.testing.assert_close(each, parameter.grad, atol=1e-6, rtol=1e-5)


class Mixing(nn.Module):
    """Takes the mean of its batch off each sample, were there a batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs):
        features = self.layer(inputs)
        return features - features.mean(dim=0) + features.square()


def test_a_model_that_mixes_samples_has_none_to_mix():
    model, inputs = Mixing(), torch.randn(4, 3)
    gradients = SampleGradients(model, lambda index: model(inputs[index]).sum())
    first = {name: each[0].clone() for name, each in gradients(torch.tensor([0, 1, 2])).items()}
    inputs[1:] = 100.0
    for name, each in gradients(torch.tensor([0, 3])).items():
        torch.testing.assert_close(each[0], first[name])


def test_dropout_draws_for_each_sample():
    model, inputs = nn.Sequential(nn.Linear(50, 50), nn.Dropout(0.5)), torch.ones(2, 50)
    found = SampleGradients(model, lambda index: model(inputs[index]).sum())(torch.tensor([0, 1]))
    one, other = found["trained.0.bias"]
    assert (one != other).any()


def test_frozen_parameters_have_none():
    model, samples = model_of(), samples_of(3)
    model.primary[0].weight.requires_grad_(False)
    gradients = SampleGradients(model, lambda index: model(samples.inputs(index)).sum())
    assert "trained.primary.0.weight" not in gradients.parameters
    assert "trained.primary.0.bias" in gradients(torch.arange(3))


# -- one sample more ---------------------------------------------------------------------------

ANY = st.floats(width=32)


@given(
    arrays(np.float32, st.tuples(st.integers(0, 5), st.just(6)), elements=ANY),
    arrays(np.float32, 6, elements=ANY),
    st.floats(1e-3, 1e3),
)
def test_one_sample_more_moves_the_clipped_sum_by_no_more_than_the_clip(rows, added, clip):
    """Whatever gradients there are, infinities and NaN among them; of two parameters together."""

    def summed(values):
        values = torch.from_numpy(np.ascontiguousarray(values))
        found = clipped_sum({"a": values[:, :2], "b": values[:, 2:].reshape(-1, 2, 2)}, clip)
        return np.concatenate([found["a"].numpy(), found["b"].numpy().ravel()])

    moved = summed(np.vstack([rows, added])) - summed(rows)
    rounding = 1e-6 * (1 + len(rows))
    assert np.linalg.norm(moved) <= clip * (1 + rounding)


def test_long_gradients_reach_the_clip_and_short_ones_stay():
    gradients = {"a": torch.tensor([[3.0, 0.0], [0.3, 0.0]]), "b": torch.tensor([[4.0], [0.4]])}
    found = clipped_sum(gradients, 1.0)
    np.testing.assert_allclose(found["a"], [0.6 + 0.3, 0.0], atol=1e-5)
    np.testing.assert_allclose(found["b"], [0.8 + 0.4], atol=1e-5)


def test_a_gradient_that_is_not_finite_counts_as_none():
    gradients = {"a": torch.tensor([[torch.nan, 1.0], [torch.inf, 0.0], [0.5, 0.0]])}
    np.testing.assert_allclose(clipped_sum(gradients, 1.0)["a"], [0.5, 0.0], atol=1e-6)


def test_whole_trainings_of_neighbours_differ_by_no_more_than_the_clip():
    """With the same noise and the same draw for all others, of a model of many layers."""
    plan = TrainingPlan(1e-5, 0.7, 1.0, steps=1, passes=1, noise=1.0, number_noise=0.0)
    ended = []
    for count in (5, 6):
        model = model_of()
        job = private_job(model, samples_of(6), plan, told=1, learning_rate=1.0)
        few = Samples(job.samples.stored[:count], job.samples.labels[:count])
        noise = replace(job.private, noise=fixed_noise(count))
        replace(job, samples=few, private=noise).run()
        ended.append(nn.utils.parameters_to_vector(model.parameters()).detach().double())
    assert 0.1 < torch.linalg.vector_norm(ended[0] - ended[1]) <= 0.7 * (1 + 1e-4)


def fixed_noise(count):
    """Noise whose numbers after the draw of `count` samples are always the same."""
    drawn = seeded_noise(5)
    first = [True]

    def source(size):
        if first and first.pop():
            return bytes(8 * count)
        return drawn.source(size)

    return replace(drawn, source=source)


# -- steps -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "dual"),
    [
        (WholeModel(), False),
        (PrimaryPhase(), False),
        (PrimaryPhase(), True),
        (PrimaryPhase(separate_heads=True), True),
        (PrimaryPhase(diversity=2.0), True),
        (SecondaryPhase(), True),
        (SecondaryPhase(separate_heads=True), True),
    ],
)
@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_without_noise_and_clip_steps_are_those_of_whole_batches(method, dual, proximal):
    samples, steps = samples_of(9), 3
    ended = []
    for private in (True, False):
        model = model_of(dual=dual)
        config = {"batch_size": 4 if private else 9, "proximal": proximal, "momentum": 0.5}
        config |= {"steps": steps, "weight_decay": 0.01}
        job = private_job(model, samples, replace(BARE, steps=steps), method, **config)
        result = (job if private else replace(job, private=None)).run()
        assert result.losses.shape == ((0,) if private else (1,))
        ended.append(nn.utils.parameters_to_vector(model.parameters()))
    start = nn.utils.parameters_to_vector(model_of(dual=dual).parameters())
    assert torch.linalg.vector_norm(ended[0] - start) > 1e-2
    torch.testing.assert_close(*ended, atol=2e-6, rtol=1e-5)


def test_another_optimiser_steps_along_noisy_gradients():
    samples, model = samples_of(5), model_of()
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    replace(private_job(model, samples, BARE), make_optimiser=AdamW).run()
    assert not torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


def test_a_step_is_noise_where_nobody_is_drawn():
    nobody = Samples(torch.ones(3, 4), torch.zeros(3, dtype=torch.long))
    plan = TrainingPlan(1e-5, 1.0, 1e-9, steps=1, passes=1, noise=2.0, number_noise=0.0)
    assert descend_linearly(nobody, plan, told=10).all()


def test_noise_has_the_deviation_of_the_plan():
    """Noise of sigma C a step, over q times the number told; of so many steps together."""
    plan = TrainingPlan(1e-5, 0.5, 0.25, steps=4, passes=1, noise=3.0, number_noise=0.0)
    zeros = Samples(torch.zeros(8, 20_000), torch.zeros(8, dtype=torch.long))
    found = descend_linearly(zeros, plan, seeded_noise(1), told=40, rate=2.0)
    deviation = 2.0 * 3.0 * 0.5 / (0.25 * 40) * np.sqrt(4)
    assert kstest(found / deviation, "norm").pvalue > 0.01


def test_the_mean_is_over_the_number_told_and_never_over_less_than_one():
    plan = replace(BARE, clip=1.0)
    ones = Samples(torch.tensor([[0.5], [0.25]]), torch.zeros(2, dtype=torch.long))
    assert descend_linearly(ones, plan, told=5) == pytest.approx(-0.75 / 5)
    rare = replace(plan, rate=0.5)
    chosen = replace(seeded_noise(1), source=lambda size: bytes(size))
    assert descend_linearly(ones, rare, chosen, told=1) == pytest.approx(-0.75)


def test_all_frozen_is_refused():
    model, samples = model_of(), samples_of(3)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="leaves nothing to train"):
        descend(
            private_job(model, samples, BARE), model, lambda index: model(samples.inputs(index))
        )
