import colorsys
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from feddag_flwr.data import corruptions
from feddag_flwr.data.corruptions import CORRUPTIONS, blur, corrupt
from feddag_flwr.data.corruptions.batch import plasma, sample, smear, zoom
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.settings import CORRUPTIONS as NAMES
from feddag_flwr.settings import Settings

REAL = Path(os.environ.get("FEDDAG_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_real = pytest.mark.skipif(
    not (REAL / "FashionMNIST/raw").is_dir(),
    reason="Fashion-MNIST is missing: set FEDDAG_TEST_DATA to the folder that has FashionMNIST/raw",
)
KINDS = sorted(CORRUPTIONS)
BLURS = ["defocus-blur", "gaussian-blur", "glass-blur", "motion-blur", "zoom-blur"]


def _noise(*shape):
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def _rng():
    return np.random.default_rng(3)


def _errors(images, kind):
    return [
        float(np.abs(corrupt(images, kind, severity, _rng()).astype(float) - images).mean())
        for severity in range(1, 6)
    ]


def test_the_settings_know_every_kind():
    assert tuple(CORRUPTIONS) == NAMES
    assert len(NAMES) >= 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (4, 7, 12), (2, 1, 1)])
def test_shape_type_and_range_stay(kind, shape):
    images = _noise(4, *shape)
    for severity in (1, 5):
        found = corrupt(images, kind, severity, _rng())
        assert (found.shape, found.dtype) == (images.shape, np.uint8)
        assert (found == corrupt(images, kind, severity, _rng())).all()
    unit = (images / 255).astype(np.float32)
    floating = corrupt(unit, kind, 3, _rng())
    assert floating.dtype == np.float32
    assert 0 <= floating.min() <= floating.max() <= 1
    assert (images == _noise(4, *shape)).all()  # the input is not touched
    # The same draws on the same pixels: the two types agree up to rounding.
    assert np.abs(floating * 255 - corrupt(images, kind, 3, _rng())).max() <= 0.51


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_batch_changes(kind):
    images = _noise(600, 1, 8, 8)
    found = corrupt(images, kind, 5, _rng())
    assert (found != images).any(axis=(1, 2, 3)).mean() > 0.95  # impulses pass some images over
    assert (found[512:] != images[512:]).any()
    assert corrupt(images[:0], kind, 5, _rng()).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    "kind", sorted(set(KINDS) - {"brightness", "contrast", "pixelate", "jpeg-compression",
                                 "defocus-blur", "gaussian-blur", "zoom-blur"})
)  # fmt: skip
def test_equal_images_get_draws_of_their_own(kind):
    images = np.repeat(_noise(1, 1, 28, 28), 5, axis=0)
    found = corrupt(images, kind, 3, _rng())
    assert len({image.tobytes() for image in found}) >= 3  # directions are rounded to pixels


@needs_real
@pytest.mark.parametrize("kind", KINDS)
def test_distortion_grows_with_severity_on_fashion_mnist(kind):
    settings = Settings.from_run_config({"dataset": "fashion-mnist", "data-dir": str(REAL)})
    errors = _errors(load_dataset(settings).test.samples[:256], kind)
    assert errors[0] > 0.5
    assert (np.diff(errors) > 0).all(), errors


@pytest.mark.parametrize("kind", KINDS)
def test_distortion_grows_from_mild_to_severe_on_digits(kind):
    errors = _errors(load_dataset(Settings()).test.samples[:100], kind)
    assert 0.5 < errors[0] < 0.7 * errors[4], errors


@pytest.mark.parametrize("kind", BLURS)
def test_blurs_leave_flat_images_alone(kind):
    flat = np.full((3, 3, 32, 32), 77, dtype=np.uint8)
    assert (corrupt(flat, kind, 5, _rng()) == flat).all()


def test_noise_has_the_deviation_of_its_severity():
    grey = np.full((20, 1, 32, 32), 0.5, dtype=np.float32)
    assert corrupt(grey, "gaussian-noise", 3, _rng()).std() == pytest.approx(0.08, rel=0.02)
    assert corrupt(grey, "speckle-noise", 3, _rng()).std() == pytest.approx(0.06, rel=0.02)
    # a Poisson count of mean 50 in units of 1/100
    assert corrupt(grey, "shot-noise", 3, _rng()).std() == pytest.approx(50**0.5 / 100, rel=0.02)
    salted = corrupt(grey, "impulse-noise", 5, _rng())
    assert (salted == 0).mean() == pytest.approx(0.035, abs=0.004)
    assert (salted == 1).mean() == pytest.approx(0.035, abs=0.004)
    assert (salted == 0.5).mean() == pytest.approx(0.93, abs=0.006)


def test_brightness_raises_the_value_of_hsv_alone():
    colours = np.random.default_rng(1).random((50, 3), dtype=np.float32)
    found = corrupt(colours.reshape(50, 3, 1, 1), "brightness", 4, _rng()).reshape(50, 3)
    for before, after in zip(colours, found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before.tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        assert after == pytest.approx(expected, abs=1e-6)
    black = corrupt(np.zeros((1, 3, 2, 2), np.uint8), "brightness", 4, _rng())
    assert (black == 51).all()


def test_contrast_by_hand():
    image = np.array([[[[0.0, 1.0]], [[0.2, 0.2]]]], dtype=np.float32)
    found = corrupt(image, "contrast", 2, _rng())  # half of the contrast stays
    assert found.ravel() == pytest.approx([0.25, 0.75, 0.2, 0.2])


def test_jpeg_is_pillows():
    image = _noise(1, 3, 16, 16)
    buffer = BytesIO()
    Image.fromarray(image[0].transpose(1, 2, 0)).save(buffer, "JPEG", quality=58)
    expected = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    assert (corrupt(image, "jpeg-compression", 3, _rng())[0] == expected).all()


def test_pixelate_averages_boxes(monkeypatch):
    monkeypatch.setattr(corruptions.digital, "_PIXELATE", (0.5,) * 5)
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    found = corrupt(image, "pixelate", 1, _rng())[0, 0]
    means = image[0, 0].reshape(2, 2, 2, 2).mean(axis=(1, 3))
    assert found == pytest.approx(np.kron(means, np.ones((2, 2))))


def test_fog_keeps_the_brightest_and_leaves_black_alone():
    image = np.zeros((1, 1, 16, 16), dtype=np.float32)
    assert corrupt(image, "fog", 5, _rng()).max() == 0
    image[0, 0, 3, 3] = 0.6
    found = corrupt(image, "fog", 5, _rng())
    assert found.max() <= 0.6
    assert found.mean() > 0.1


def test_frost_darkens_white_and_whitens_black():
    black, white = np.zeros((1, 1, 16, 16), np.float32), np.ones((1, 1, 16, 16), np.float32)
    ridges = corrupt(black, "frost", 3, _rng()) / 0.4
    assert ridges.max() == pytest.approx(1, abs=0.15)
    expected = np.minimum(0.9 + 0.4 * ridges, 1)
    assert corrupt(white, "frost", 3, _rng()) == pytest.approx(expected, abs=1e-6)


def test_snow_only_brightens_but_for_bleaching():
    black = np.zeros((5, 1, 28, 28), dtype=np.float32)
    found = corrupt(black, "snow", 2, _rng())
    assert found.min() == pytest.approx(0.1 * 0.5)  # one tenth of the bleached black
    assert found.max() > 0.2


def test_glass_moves_pixels_and_makes_none(monkeypatch):
    monkeypatch.setattr(blur, "_GLASS_SIGMA", 0)
    images = _noise(3, 2, 9, 9)
    found = corrupt(images, "glass-blur", 5, _rng())
    pixels = [sorted(map(tuple, image.reshape(2, -1).T.tolist())) for image in images]
    assert [sorted(map(tuple, image.reshape(2, -1).T.tolist())) for image in found] == pixels
    assert (found != images).mean() > 0.5


def test_defocus_spreads_a_point_evenly():
    point = np.zeros((1, 1, 15, 15), dtype=np.float32)
    point[0, 0, 7, 7] = 1
    spread = corrupt(point, "defocus-blur", 5, _rng())[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert (spread == spread.T).all()
    assert spread[6:9, 6:9] == pytest.approx(np.full((3, 3), 1 / 9), abs=0.01)


def test_blurs_grow_with_the_image():
    point = np.zeros((1, 1, 97, 97), dtype=np.float32)
    point[0, 0, 48, 48] = 1
    rows, _ = np.indices((97, 97))
    spread = corrupt(point, "gaussian-blur", 5, _rng())[0, 0]
    variance = (spread * (rows - 48) ** 2).sum() / spread.sum()
    assert variance**0.5 == pytest.approx(97 / 32, rel=0.02)


def test_sample_is_bilinear_with_edges_held():
    images = _noise(3, 2, 6, 9).astype(np.float32)
    places = np.random.default_rng(2).uniform(-2, 11, (2, 3, 6, 9)).astype(np.float32)
    found = sample(images, *places)
    for image, rows, columns, read in zip(images, *places, found, strict=True):
        for plane, expected in zip(image, read, strict=True):
            oracle = ndimage.map_coordinates(plane, (rows, columns), order=1, mode="nearest")
            assert expected == pytest.approx(oracle, abs=1e-3)


def test_zoom_stretches_a_slope_about_the_centre():
    rows, columns = np.indices((5, 8), dtype=np.float32)
    found = zoom((rows + 10 * columns)[np.newaxis, np.newaxis], 2.0)[0, 0]
    assert found == pytest.approx(2 + (rows - 2) / 2 + 10 * (3.5 + (columns - 3.5) / 2))


def test_smear_weighs_by_half_a_gaussian():
    point = np.zeros((2, 1, 9, 9), dtype=np.float32)
    point[:, 0, 4, 4] = 1
    found = smear(point, 3, 1.0, np.array([0.0, 90.0]))
    weights = np.exp(-(np.arange(5) ** 2) / 2)
    weights /= np.exp(-(np.arange(7) ** 2) / 2).sum()
    assert found[0, 0, 4, 4:] == pytest.approx(weights, abs=1e-3)
    assert found[1, 0, 4:, 4] == pytest.approx(weights, abs=1e-3)
    assert found.sum(axis=(1, 2, 3)) == pytest.approx([1, 1], abs=1e-3)


def test_plasma_is_rougher_with_less_decay():
    def roughness(decay):
        texture = plasma(200, 32, 32, decay, _rng())
        assert texture.shape == (200, 1, 32, 32)
        assert (texture.min(axis=(1, 2, 3)) == 0).all()
        assert (texture.max(axis=(1, 2, 3)) == 1).all()
        return np.abs(np.diff(texture, axis=3)).mean()

    assert roughness(1.6) > 1.3 * roughness(2) > 2 * roughness(4)
    assert plasma(1, 28, 20, 2, _rng()).shape == (1, 1, 28, 20)
