"""One image file to pixels, against Pillow, torchvision and pixels by hand."""

import logging
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from feddag_flwr.data.folders import read_image_folder
from feddag_flwr.data.images import decoding
from feddag_flwr.data.images.decoding import decode, read_head
from feddag_flwr.data.images.fitting import covering, fitted_arrays
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import Reading
from feddag_flwr.data.samples import DataError

ORIENTATION = 0x0112


def noise(*shape, most=256):
    return np.random.default_rng(sum(shape)).integers(0, most, shape, dtype=np.uint8)


def save(path, picture, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def torchvision_s(picture, side):
    steps = [v2.Resize(side, InterpolationMode.BILINEAR, antialias=True), v2.CenterCrop(side)]
    return np.asarray(v2.Compose(steps)(picture))


@pytest.mark.parametrize("size", [(50, 37), (37, 50), (40, 40), (9, 31), (200, 20)])
def test_square_sizes_are_torchvision_s_shorter_side_and_centre_crop(tmp_path, size):
    picture = Image.fromarray(noise(size[1], size[0], 3))
    found = decode(save(tmp_path / "a.png", picture), ImageForm(3, 24, 24))
    # Pillow rounds once more where it makes the whole of the image that is cropped.
    difference = found.astype(int) - torchvision_s(picture, 24).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 1


def test_a_covering_image_has_one_side_of_the_window_s():
    assert covering(30, 60, 10, 10) == (10, 20, 0, 5)
    assert covering(60, 30, 10, 20) == (40, 20, 15, 0)
    assert covering(1, 10_000, 128, 128)[:2] == (128, 1_280_000)


def test_a_line_as_long_as_ten_thousand_pixels_needs_no_memory(tmp_path):
    path = save(tmp_path / "line.png", Image.new("L", (10_000, 1), 77))
    assert (decode(path, ImageForm(1, 128, 128)) == 77).all()


def test_images_of_the_right_size_are_left_alone(tmp_path):
    pixels = noise(8, 6, 3)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    assert (decode(path, ImageForm(3, 8, 6)) == pixels.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, suffix, turn):
    """A bright corner, stored as each orientation stores it."""
    upright = np.zeros((48, 32), np.uint8)
    upright[:16, :8] = 250
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: upright.T[::-1], 7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1],
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    picture = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    path = save(tmp_path / f"a.{suffix}", picture, exif=exif)
    assert read_head(path)[:2] == (48, 32)
    found = decode(path, ImageForm(1, 48, 32))[0].astype(int)
    assert np.abs(found - upright).mean() < 12
    assert found[2:14, 2:6].min() > 200
    assert found[20:, 12:].max() < 60


def test_what_is_transparent_lies_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0] = (10, 20, 30, 255)
    path = save(tmp_path / "a.png", Image.fromarray(pixels))
    found = decode(path, ImageForm(3, 2, 2))
    assert found[:, 0, 0].tolist() == [10, 20, 30]
    assert found[:, 1, 1].tolist() == [255, 255, 255]
    grey = save(tmp_path / "b.png", Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8)))
    assert decode(grey, ImageForm(1, 1, 2)).tolist() == [[[9, 255]]]
    assert read_head(grey).grey


def test_palettes_and_cmyk_become_their_colours(tmp_path):
    colours = Image.new("RGB", (4, 4), (200, 30, 60))
    palette = save(tmp_path / "a.gif", colours.convert("P", palette=Image.Palette.ADAPTIVE))
    assert decode(palette, ImageForm(3, 4, 4))[:, 0, 0].tolist() == [200, 30, 60]
    inks = save(tmp_path / "b.tif", colours.convert("CMYK"))
    assert decode(inks, ImageForm(3, 4, 4))[:, 0, 0].tolist() == [200, 30, 60]
    assert not read_head(inks).grey


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize(("bits", "highest"), [(12, 4095), (12, 1024), (16, 65_535), (8, 255)])
def test_deep_files_are_scaled_by_the_range_of_all(tmp_path, caplog, suffix, bits, highest):
    values = np.linspace(0, highest, 64).round().astype(np.uint16).reshape(8, 8)
    save(tmp_path / f"data/a/0.{suffix}", Image.fromarray(values))
    save(tmp_path / f"data/a/1.{suffix}", Image.fromarray(values // 2))
    with caplog.at_level(logging.INFO, logger="flwr"):
        parts = read_image_folder(tmp_path / "data")
    assert parts.spec == ImageForm(1, 8, 8, bits).spec
    most = 2**bits - 1
    expected = np.rint(values * (255 / most))
    assert (parts.train.samples[0, 0] == expected).all()
    assert (parts.train.samples[1, 0] == np.rint((values // 2) * (255 / most))).all()
    said = f"2 of 2 files have more than 8 bits a channel: 0 to {most} becomes 0 to 255"
    assert caplog.text.count(said) == 1


def test_values_that_no_image_has_are_named(tmp_path):
    path = save(tmp_path / "a.tiff", Image.fromarray(np.array([[0.0, 7.5]], np.float32)))
    with pytest.raises(DataError, match=r"a.tiff: values from 0 to 7.5; expected floating in \[0"):
        read_head(path)
    path = save(tmp_path / "b.tiff", Image.fromarray(np.array([[-3, 7]], np.int32)))
    with pytest.raises(DataError, match=r"b.tiff: values from -3 to 7; expected 0 to 65535"):
        read_head(path)
    path = save(tmp_path / "c.tiff", Image.fromarray(np.array([[0.0, 1.0]], np.float32)))
    assert decode(path, ImageForm(1, 1, 2)).tolist() == [[[0, 255]]]


def _bomb(path, side):
    """Write a PNG of side x side bits, all black, in few bytes."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packed = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    rows = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_decompression_bomb_is_named_and_not_decoded(tmp_path, caplog, monkeypatch):
    _bomb(tmp_path / "a/bomb.png", 30_000)
    assert (tmp_path / "a/bomb.png").stat().st_size < 200_000
    for index in range(3):
        save(tmp_path / f"a/{index}.png", Image.fromarray(noise(8, 8)))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert len(read_image_folder(tmp_path).train) == 3
    assert "1 of 4 files cannot be read" in caplog.text
    assert "bomb.png" in caplog.text
    with pytest.raises(DataError, match=r"bomb.png: not a readable image .*decompression bomb"):
        read_image_folder(tmp_path, Reading(skip=False))
    monkeypatch.setattr(decoding, "MOST_PIXELS", 60)
    with pytest.raises(DataError, match=r"0.png: 8 x 8 pixels .*, 60 at most are decoded"):
        decode(tmp_path / "a/0.png", ImageForm(1, 4, 4))


def test_large_jpegs_are_reduced_while_they_are_read(tmp_path, monkeypatch):
    smooth = Image.fromarray(noise(5, 5, 3)).resize((1600, 1200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    sizes = []
    real = decoding.fitted
    monkeypatch.setattr(
        decoding, "fitted", lambda image, *size: sizes.append(image.size) or real(image, *size)
    )
    lying = save(tmp_path / "a.jpg", smooth, quality=95, exif=exif)
    found = decode(lying, ImageForm(3, 64, 48))
    assert sizes == [(150, 200)]  # an eighth, upright
    whole = smooth.transpose(Image.Transpose.ROTATE_270)
    expected = np.asarray(real(whole, 64, 48)).transpose(2, 0, 1)
    assert np.abs(found.astype(int) - expected).mean() < 2


def test_the_same_pixels_in_an_array_become_the_same(tmp_path):
    pixels = noise(3, 20, 30, 3)
    for form in (ImageForm(3, 16, 16), ImageForm(1, 16, 16), ImageForm(3, 20, 30)):
        files = [
            decode(save(tmp_path / f"{index}.png", Image.fromarray(image)), form)
            for index, image in enumerate(pixels)
        ]
        assert (fitted_arrays(pixels.transpose(0, 3, 1, 2), form) == np.stack(files)).all()
        floats = (pixels / 255).astype(np.float32).transpose(0, 3, 1, 2)
        found = fitted_arrays(floats, form)
        assert found.dtype == np.float32
        assert np.abs(255 * found - np.stack(files)).max() < 2
    grey = fitted_arrays(pixels[:, None, :, :, 0], ImageForm(3, 8, 8))
    assert (grey == grey[:, :1]).all()
