"""How the benchmark of private profiles looks for images."""

import numpy as np
import private_profile
import pytest

from feddag_flwr.data.samples import LabelledSamples

SIDE = 12


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 1, SIDE, SIDE), dtype=np.uint8)


def look(vectors, images, projection=None):
    data = LabelledSamples(images[:2], np.array([0, 0]))
    crowd = images[2:].reshape(2, -1) / 255
    return private_profile._best(vectors, projection, data, crowd, 0)


def test_an_image_is_recognised_by_its_own_vector_and_not_by_anothers(images):
    rows = images.reshape(4, -1) / 255
    found = look(-3 * rows[1:2], images)
    assert found["recognised"]
    assert (found["cosine"], found["ssim"]) == pytest.approx((1, 1), abs=1e-6)
    other = look(rows[2:3], images)
    assert not other["recognised"]
    assert other["ssim"] < 0.6
    assert look(np.zeros((0, SIDE**2)), images) is None


def test_of_projected_vectors_the_shortest_image_is_shown(images):
    projection = np.random.default_rng(1).standard_normal((10, SIDE**2))
    rows = images.reshape(4, -1) / 255
    found = look((projection @ rows[0])[None], images, projection)
    assert found["recognised"]
    shown = np.linalg.pinv(projection) @ projection @ rows[0]
    cosine = shown @ rows[0] / np.linalg.norm(shown) / np.linalg.norm(rows[0])
    assert found["cosine"] == pytest.approx(cosine)


def test_trials_are_repeated_to_the_bit():
    drawn = [private_profile.noise_of(3, 1).normal(5) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
