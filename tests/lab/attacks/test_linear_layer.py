"""Inputs of a linear layer from its gradients, and images from the span of principal vectors."""

import numpy as np
import pytest
import torch
from torch import nn

from feddag_lab.attacks.cone import extreme_rays
from feddag_lab.attacks.likeness import matched
from feddag_lab.attacks.linear_layer import inputs_of_layer


def gradients(images, units=64, seed=0):
    """Of a layer before a ReLU and five classes, by PyTorch."""
    torch.manual_seed(seed)
    layer, head = nn.Linear(images.shape[1], units).double(), nn.Linear(units, 5).double()
    scores = head(torch.relu(layer(torch.from_numpy(images))))
    nn.functional.cross_entropy(scores, torch.arange(len(images)) % 5).backward()
    return layer.weight.grad.numpy(), layer.bias.grad.numpy()


def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_batch_before_a_relu_is_found_to_the_digit(count):
    images = rng().standard_normal((count, 40))
    found = inputs_of_layer(*gradients(images), count, rng())
    assert np.abs(found - images[matched(found, images)]).max() < 1e-6


def test_it_is_found_in_single_precision():
    images = rng().standard_normal((4, 40))
    weight, bias = (each.astype(np.float32).astype(np.float64) for each in gradients(images))
    found = inputs_of_layer(weight, bias, 4, rng())
    assert np.abs(found - images[matched(found, images)]).max() < 1e-3


def test_more_inputs_than_units_are_not_found():
    images = rng().standard_normal((9, 40))
    assert inputs_of_layer(*gradients(images, units=8), 9, rng()) is None


def test_of_a_layer_without_silent_units_nothing_is_found():
    slopes, images = rng().standard_normal((64, 8)), rng().standard_normal((8, 40))
    assert inputs_of_layer(slopes @ images, slopes.sum(axis=1), 8, rng()) is None


def test_a_gradient_of_zero_gives_nothing():
    assert inputs_of_layer(np.zeros((8, 5)), np.zeros(8), 1, rng()) is None


def test_the_rays_of_images_with_pixels_of_their_own_are_the_images():
    images = np.array([[1.0, 0.0, 0.5, 0.2], [0.0, 1.0, 0.3, 0.6]])
    vectors = np.linalg.svd(images, full_matrices=False)[2]
    rays = extreme_rays(vectors, rng())
    assert len(rays) == 2
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    np.testing.assert_allclose(rays[np.argsort(-rays[:, 0])], unit, atol=1e-5)


def test_an_image_that_is_another_and_more_is_told_up_to_the_other():
    """The span of [1, 0] and [1, 1] is that of [1, 0] and [0, 1]: the rest is what is shown."""
    rays = extreme_rays(np.eye(2), rng())
    assert sorted(map(tuple, rays.round(5).clip(0).tolist())) == [(0.0, 1.0), (1.0, 0.0)]


def test_a_span_without_pictures_has_no_rays():
    assert extreme_rays(np.array([[1.0, -1.0]]) / np.sqrt(2), rng()).shape == (0, 2)
