import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train_jobs import train_primary

from feddag_flwr.algorithms.fedrc.mixture import class_sums, responsibilities
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.settings import Settings

SHAPE = (1, 8, 8)
SCALE = ((0.5, 0.25),)


def test_responsibilities_by_hand():
    # Sample 0, label 1: weights 0.5 e^-0 / 0.25 = 2 and 0.5 e^-0 / 0.5 = 1: 2/3, 1/3.
    # Sample 1, label 0: 0.5 e^-ln4 / 0.75 = 1/6 and 0.5 e^-ln2 / 0.5 = 1/2: 1/4, 3/4.
    omega, label_shares = np.array([0.5, 0.5]), np.array([[0.75, 0.25], [0.5, 0.5]])
    prior = torch.from_numpy(np.log(omega)[:, None] - np.log(label_shares))
    losses = torch.log(torch.tensor([[1.0, 4.0], [1.0, 2.0]], dtype=torch.float64))
    labels = torch.tensor([1, 0])
    found = responsibilities(losses, labels, prior)
    np.testing.assert_allclose(found, [[2 / 3, 1 / 4], [1 / 3, 3 / 4]])
    np.testing.assert_allclose(class_sums(found, labels, 2), [[1 / 4, 2 / 3], [3 / 4, 1 / 3]])


@given(st.integers(0, 10_000), st.floats(0, 1e11))
def test_every_sample_is_shared_out_whole(seed, scale):
    rng = np.random.default_rng(seed)
    losses, labels = (
        torch.from_numpy(scale * rng.random((3, 7))),
        torch.from_numpy(rng.integers(0, 4, 7)),
    )
    found = responsibilities(losses, labels, torch.from_numpy(rng.normal(size=(3, 4))))
    np.testing.assert_allclose(found.sum(dim=0), 1)
    assert float(class_sums(found, labels, 4).sum()) == pytest.approx(7)


def trained(weights):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *SHAPE), dtype=np.uint8)
    samples = Image().to_device(
        torch.device("cpu"), LabelledSamples(images, rng.integers(0, 3, 20)), SCALE
    )
    model = build_model("small", SHAPE, 3, dual=False, seed=1)
    settings = Settings.from_run_config({"weight-decay": 0.0, "momentum": 0.0, "batch-size": 32})
    before = get_parts(model)
    train_primary(model, samples, settings, np.random.default_rng(0), 1, weights=weights)
    return np.concatenate(
        [after.floats - before[part].floats for part, after in get_parts(model).items()]
    )


def test_sample_weights_scale_the_gradient_and_drop_samples():
    # One batch, one step: the update is linear in the weights.
    first = torch.zeros(20)
    first[:8] = 1
    np.testing.assert_array_equal(trained(torch.ones(20)), trained(None))
    np.testing.assert_allclose(trained(first) + trained(1 - first), trained(None), atol=1e-7)
    np.testing.assert_allclose(trained(0.25 * torch.ones(20)), 0.25 * trained(None), atol=1e-7)
    assert not trained(torch.zeros(20)).any()
