"""What is done to training images at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.augmentations.randaugment import randaugment
from feddag_flwr.augmentations.standard import shift_and_mirror
from feddag_flwr.modalities import ModalityError
from feddag_flwr.modalities.base import Modality
from feddag_flwr.modalities.image import Image


def images(count=6, channels=1, height=16, width=8, seed=0):
    shape = (count, channels, height, width)
    return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32))


def shifted(image, down, right):
    """Shift an image (channels, height, width) by whole pixels, zeros coming in."""
    out = torch.zeros_like(image)
    _, height, width = image.shape
    rows = slice(max(0, down), height + min(0, down))
    source_rows = slice(max(0, -down), height - max(0, down))
    columns = slice(max(0, right), width + min(0, right))
    source_columns = slice(max(0, -right), width - max(0, right))
    out[:, rows, columns] = image[:, source_rows, source_columns]
    return out


@given(seed=st.integers(0, 10_000))
def test_each_image_is_shifted_and_perhaps_mirrored(seed):
    """16 x 8 pixels: by 2 at most up or down, by 1 at most to the sides."""
    before = images(count=3, channels=2)
    after = shift_and_mirror(before, np.random.default_rng(seed))
    for one, other in zip(before, after, strict=True):
        possible = [
            torch.flip(moved, [2]) if mirrored else moved
            for down in range(-2, 3)
            for right in range(-1, 2)
            for moved in [shifted(one, down, right)]
            for mirrored in (False, True)
        ]
        assert any(torch.equal(other, each) for each in possible)


def test_all_shifts_come_up():
    one = images(count=1).repeat(400, 1, 1, 1)
    after = shift_and_mirror(one, np.random.default_rng(1))
    assert len({each.numpy().tobytes() for each in after}) == 5 * 3 * 2


def test_randaugment_changes_images_by_the_generator_alone():
    before, state = images(channels=3, height=16, width=16), torch.get_rng_state()
    first = randaugment(before, np.random.default_rng(3))
    again = randaugment(before, np.random.default_rng(3))
    other = randaugment(before, np.random.default_rng(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == before.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(torch.get_rng_state(), state)


def test_randaugment_refuses_images_of_two_channels():
    with pytest.raises(ValueError, match="1 or 3 channels, these have 2"):
        randaugment(images(channels=2), np.random.default_rng(3))


def test_standardised_images_are_changed_as_what_they_were():
    scale, before = ((0.3, 0.2), (0.6, 0.5)), images(channels=2)
    rows = torch.tensor(scale).reshape(2, 2, 1, 1)
    standardised = (before - rows[:, 0]) / rows[:, 1]
    seen = []

    def invert(inputs, rng):
        seen.append(inputs)
        return 1 - inputs

    after = Image().augment(standardised, scale, invert, np.random.default_rng(0))
    torch.testing.assert_close(seen[0], before)
    torch.testing.assert_close(after, (1 - before - rows[:, 0]) / rows[:, 1])


def test_a_kind_of_data_that_does_not_say_how_is_not_changed():
    with pytest.raises(ModalityError, match="setting augmentation"):
        Modality.augment(Image(), images(), (), shift_and_mirror, np.random.default_rng(0))
