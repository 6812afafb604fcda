import numpy as np
import torch
from torch.nn import functional

from feddag_flwr.algorithms.cfl_gp.client import mean_gradient
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY

SHAPE = (1, 8, 8)


def samples(count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    data = LabelledSamples(images, rng.integers(0, 10, count))
    return Image().to_device(torch.device("cpu"), data, ((0.5, 0.3),))


def test_the_gradient_is_that_of_the_mean_loss_over_all_chunks():
    model = build_model("small", SHAPE, 10, dual=False, seed=1)
    before = get_parts(model)
    data = samples(300)  # more than one chunk
    found = mean_gradient(model, data, CROSS_ENTROPY)
    model.zero_grad()
    functional.cross_entropy(model(data.inputs(slice(None))), data.labels).backward()
    for part, module in model.parts().items():
        expected = np.concatenate([p.grad.numpy().ravel() for p in module.parameters()])
        np.testing.assert_allclose(found[part].floats, expected, atol=1e-6)
        np.testing.assert_array_equal(get_parts(model)[part].floats, before[part].floats)


def test_a_parameter_without_influence_has_gradient_zero():
    model = build_model("small", SHAPE, 10, dual=False, seed=1)
    model.primary.register_parameter("idle", torch.nn.Parameter(torch.ones(3)))
    found = mean_gradient(model, samples(5), CROSS_ENTROPY)["primary"].floats
    assert len(found) == sum(p.numel() for p in model.primary.parameters())
    assert (found != 0).any()
    assert (found == 0).sum() >= 3
