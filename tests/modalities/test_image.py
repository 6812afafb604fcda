import numpy as np
import pytest

from feddag_flwr.data.samples import LabelledSamples, sample_moments, unit_pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_are_those_of_all_pixels_of_a_channel(dtype):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 3, 5, 4)).astype(np.uint8)
    if dtype is np.float32:
        images = (images / 255).astype(np.float32)
    unit = unit_pixels(images)
    assert unit.dtype == np.float64
    assert unit.max() <= 1
    expected = [(unit[:, c].mean(), (unit[:, c] ** 2).mean()) for c in range(3)]
    found = sample_moments(LabelledSamples(images, np.zeros(7, np.int64)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
