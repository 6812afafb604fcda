import numpy as np
import pytest

from feddag_flwr.data import pixels
from feddag_flwr.data.pixels import pixel_moments, unit_pixels


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
    found = pixel_moments(images)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_moments_in_pieces_are_those_of_all_pixels(monkeypatch):
    images = np.random.default_rng(1).integers(0, 256, (50, 3, 5, 4)).astype(np.uint8)
    floats = (images / 255).astype(np.float32)
    whole = pixel_moments(images), pixel_moments(floats)
    monkeypatch.setattr(pixels, "BYTES_AT_ONCE", 7 * 20)
    monkeypatch.setattr(pixels._parts, "__defaults__", (7 * 20,))
    assert pixel_moments(images) == whole[0]
    np.testing.assert_allclose(pixel_moments(floats), whole[1], rtol=1e-12)
