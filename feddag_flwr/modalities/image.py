"""Images of one size, (channels, height, width)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from feddag_flwr.data.images.fitting import fitted_arrays
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.pixels import pixel_moments, unit_pixels
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities.base import Modality, ModalityError, Rows, SampleSpec
from feddag_flwr.models.encoders import Cnn3Encoder, LeNetEncoder, SmallEncoder
from feddag_flwr.training.device import Samples

if TYPE_CHECKING:
    from feddag_flwr.augmentations import Augmentation

FLOAT_BYTES = 4
# Images that take no more bytes than this are standardised once; larger sets, batch by batch.
STANDARDISE_AT_ONCE = 256 * 2**20
# Longer side of images that are made small: as large as CIFAR-10's.
SMALL_SIDE = 32
# A deviation below this is that of a constant channel, rounded.
MIN_DEVIATION = 1e-4


class Image(Modality):
    """Images: uint8, or float32 in [0, 1]; (n, channels, height, width).

    A scale has mean and deviation of each channel, moments have mean and mean square, both on the
    scale [0, 1], which is also what the subspaces are of.
    """

    array = "images"
    noun = "image"
    prepared_anew = True

    def accept(self, samples: NDArray[Any], where: str) -> NDArray[Any]:
        """Bring (n, height, width) or (n, height, width, channels) to the form held."""
        images = samples[..., np.newaxis] if samples.ndim == 3 else samples
        if images.ndim != 4 or not 1 <= images.shape[3] <= 4 or 0 in images.shape[1:3]:
            raise DataError(
                f"{where} has shape {images.shape}; expected (n, height, width) or "
                "(n, height, width, channels) with 1 to 4 channels"
            )
        if images.dtype.kind in "iu" and images.min(initial=0) >= 0 and images.max(initial=0) < 256:
            images = images.astype(np.uint8, copy=False)
        elif images.dtype != np.uint8:
            images = _unit_floats(images, where)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))

    def in_words(self, spec: SampleSpec) -> str:
        """Write height, width and channels."""
        channels, height, width = spec.shape
        return f"{height} x {width} with {channels} channel(s)"

    def agreed(self, specs: Sequence[SampleSpec], weights: NDArray[np.float64]) -> SampleSpec:
        """Return the most common size and number of channels, and the largest range of any client.

        Clients count by their `weights`; of equally common ones it is the smallest.
        """
        sizes: dict[tuple[int, int], float] = defaultdict(float)
        channels: dict[int, float] = defaultdict(float)
        forms = [ImageForm.of(spec) for spec in specs]
        for form, weight in zip(forms, weights.tolist(), strict=True):
            sizes[form.height, form.width] += weight
            channels[form.channels] += weight
        height, width = min(sizes, key=lambda size: (-sizes[size], size[0] * size[1], size))
        most = min(channels, key=lambda number: (-channels[number], number))
        return ImageForm(most, height, width, max(form.bits for form in forms)).spec

    def check_fit(self, own: SampleSpec, spec: SampleSpec) -> None:
        """Refuse other channels; sizes may be any, and grey becomes colour and back."""
        channels = {own.shape[0], spec.shape[0]}
        if len(channels) > 1 and channels != {1, 3}:
            self.check_same(own, spec)

    def in_spec(self, samples: NDArray[Any], spec: SampleSpec) -> NDArray[Any]:
        """Resize images and change their colours; those that were prepared so stay as they are."""
        return fitted_arrays(samples, ImageForm.of(spec))

    def check(self, spec: SampleSpec) -> None:
        """Refuse what is not (channels, height, width), and perhaps the bits of deep files."""
        try:
            ImageForm.of(spec)
        except ValueError as error:
            raise ModalityError(
                "sample-shape must be three positive integers (channels, height, width), "
                f"got {spec.shape} {spec.details[:80]!r}"
            ) from error

    def moments(self, samples: NDArray[Any]) -> Rows:
        """Return each channel's mean and mean square."""
        return pixel_moments(samples)

    def check_moments(self, spec: SampleSpec, moments: Rows) -> None:
        """Refuse moments that no pixels in [0, 1] have."""
        _check_rows("moments", spec, moments)
        # Square of the mean <= mean square <= mean; rounding gets a little room.
        if not all(0 <= m <= 1 and m * m - 1e-6 <= square <= m + 1e-6 for m, square in moments):
            raise ModalityError(f"moments {moments} are of no pixels in [0, 1]")

    def scale(
        self, spec: SampleSpec, moments: Sequence[Rows], weights: NDArray[np.float64]
    ) -> Rows:
        """Return mean and deviation of each channel.

        A channel without any variance is left as it is: mean 0, deviation 1.
        """
        del spec
        means, squares = np.einsum("i,icm->mc", weights, np.array(moments))
        deviations = np.sqrt(np.maximum(squares - means**2, 0.0))
        return tuple(
            (float(mean), float(deviation)) if deviation > MIN_DEVIATION else (0.0, 1.0)
            for mean, deviation in zip(means, deviations, strict=True)
        )

    def plain_scale(self, spec: SampleSpec) -> Rows:
        """Return mean 0 and deviation 1 for each channel."""
        return ((0.0, 1.0),) * spec.shape[0]

    def check_scale(self, spec: SampleSpec, scale: Rows) -> None:
        """Refuse deviations that are not positive."""
        _check_rows("scale", spec, scale)
        if min(deviation for _, deviation in scale) <= 0:
            raise ModalityError(f"scale: deviations must be positive, got {scale}")

    def to_device(self, device: torch.device, data: LabelledSamples, scale: Rows) -> Samples:
        """Copy images to `device`, standardised where that takes little memory."""
        images = torch.from_numpy(np.ascontiguousarray(data.samples))  # mapped ones stay mapped
        rows = torch.tensor(scale, dtype=torch.float64)
        unit = 255.0 if images.dtype == torch.uint8 else 1.0
        factor = (1 / (unit * rows[:, 1])).float().reshape(-1, 1, 1).to(device)
        offset = (-rows[:, 0] / rows[:, 1]).float().reshape(-1, 1, 1).to(device)
        labels = torch.from_numpy(data.labels).to(device)

        def standardise(chosen: Tensor) -> Tensor:
            return torch.addcmul(offset, chosen.float(), factor)

        if FLOAT_BYTES * images.numel() > STANDARDISE_AT_ONCE:
            return Samples(images.to(device), labels, standardise)
        return Samples(standardise(images.to(device)), labels)

    def device_bytes(self, samples: NDArray[Any]) -> int:
        """Bytes of the images as `to_device` leaves them."""
        floats = FLOAT_BYTES * samples.size
        return samples.nbytes if floats > STANDARDISE_AT_ONCE else floats

    def augment(
        self,
        inputs: Tensor,
        scale: Rows,
        augmentation: Augmentation,
        rng: np.random.Generator,
    ) -> Tensor:
        """Change standardised images as what they were in [0, 1]."""
        rows = torch.tensor(scale, dtype=inputs.dtype, device=inputs.device).reshape(-1, 2, 1, 1)
        means, deviations = rows.unbind(1)
        changed = augmentation(inputs * deviations + means, rng)
        return (changed - means) / deviations

    def subspace_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return the pixels in [0, 1], an image a row."""
        del scale
        return unit_pixels(samples).reshape(len(samples), -1)

    def subspace_features(self, spec: SampleSpec) -> int:
        """Return the number of an image's values."""
        return math.prod(spec.shape)

    def reduced_shape(self, spec: SampleSpec) -> tuple[int, ...]:
        """Return channels, height and width of a small image."""
        channels, height, width = spec.shape
        return channels, *_small_size(height, width)

    def reduced_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return the pixels in [0, 1] of images whose longer side is `SMALL_SIDE` at most.

        A small image's pixel is the mean of those that it covers.
        """
        size = _small_size(*samples.shape[2:])
        small = np.empty((len(samples), samples.shape[1], *size))
        for chunk in chunks_of(len(samples)):
            pixels = torch.from_numpy(unit_pixels(samples[chunk]))
            small[chunk] = functional.adaptive_avg_pool2d(pixels, size).numpy()
        return self.subspace_matrix(small, scale)

    def default_encoder(self, spec: SampleSpec) -> nn.Module:
        """Make ``small`` below 16 pixels a side, ``lenet`` for grey images, else ``cnn3``."""
        channels, height, width = spec.shape
        shape = (channels, height, width)
        if min(height, width) < 16:
            return SmallEncoder(shape)
        return LeNetEncoder(shape) if channels == 1 else Cnn3Encoder(shape)


def _small_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of an image that is made small, in about the same proportion."""
    longer = max(height, width)
    if longer <= SMALL_SIDE:
        return height, width
    return max(1, height * SMALL_SIDE // longer), max(1, width * SMALL_SIDE // longer)


def _unit_floats(images: NDArray[Any], where: str) -> NDArray[np.float32]:
    if images.dtype.kind != "f":
        raise DataError(
            f"{where} is {images.dtype}; expected uint8, integers from 0 to 255 or floating in "
            "[0, 1]"
        )
    broken = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
    if broken.size:
        raise DataError(
            f"{where}: {broken.size} of {len(images)} have NaN or infinite pixels, "
            f"the first is number {broken[0]} (counted from 0); leave it out, with its label"
        )
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise DataError(
            f"{where} runs from {images.min()} to {images.max()}; expected floating in [0, 1]"
        )
    return images.astype(np.float32)


def _check_rows(what: str, spec: SampleSpec, rows: Rows) -> None:
    if len(rows) != spec.shape[0] or any(len(row) != 2 for row in rows):
        raise ModalityError(f"{what} must be 2 numbers for each of {spec.shape[0]} channels")
