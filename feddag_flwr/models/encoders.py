"""Encoders: networks from an image to a feature vector of a known size (phi1, phi2 of Eq. 2).

An encoder is an `nn.Module` that maps images (n, channels, height, width), standardised over the
federation, to (n, ``feature_size``), and has that int as an attribute. Pooling comes before ReLU:
the result is the same, as both keep the order of values, and ReLU then works on a quarter of them.
"""

import itertools

from torch import Tensor, nn

ImageShape = tuple[int, int, int]


class _AdaptTo4(nn.AdaptiveAvgPool2d):
    """Average-pool to 4 x 4; nothing to do where the size fits already.

    The short cut keeps the native sizes free of a kernel whose CUDA gradient is not deterministic.
    """

    def __init__(self) -> None:
        super().__init__(4)

    def forward(self, maps: Tensor) -> Tensor:
        return maps if maps.shape[-2:] == (4, 4) else super().forward(maps)


def _check_size(name: str, image_shape: ImageShape, smallest: int) -> None:
    if min(image_shape[1:]) < smallest:
        raise ValueError(
            f"model {name!r} needs images of {smallest} x {smallest} pixels at least, "
            f"got {image_shape[1]} x {image_shape[2]}"
        )


class SmallEncoder(nn.Sequential):
    """For images of about 8 x 8 pixels, at least 4 x 4: one 3x3 convolution and 64 features."""

    feature_size = 64

    def __init__(self, image_shape: ImageShape) -> None:
        _check_size("small", image_shape, 4)
        super().__init__(
            nn.Conv2d(image_shape[0], 16, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            _AdaptTo4(),
            nn.Flatten(),
            nn.Linear(16 * 16, self.feature_size),
            nn.ReLU(),
        )


class LeNetEncoder(nn.Sequential):
    """The paper's encoder for 28 x 28 grey images (Sec. 5): 6 and 16 channels, 84 features.

    It takes images of at least 16 x 16 pixels.
    """

    feature_size = 84

    def __init__(self, image_shape: ImageShape) -> None:
        _check_size("lenet", image_shape, 16)
        super().__init__(
            nn.Conv2d(image_shape[0], 6, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(6, 16, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            _AdaptTo4(),
            nn.Flatten(),
            nn.Linear(16 * 16, 120),
            nn.ReLU(),
            nn.Linear(120, self.feature_size),
            nn.ReLU(),
        )


class Cnn3Encoder(nn.Sequential):
    """The paper's encoder for 32 x 32 colour images (Sec. 5): 64, 128, 256 channels, 256 features.

    It takes images of at least 8 x 8 pixels.
    """

    feature_size = 256

    def __init__(self, image_shape: ImageShape) -> None:
        _check_size("cnn3", image_shape, 8)
        channels = (image_shape[0], 64, 128, 256)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
        super().__init__(
            *layers,
            _AdaptTo4(),
            nn.Flatten(),
            nn.Linear(256 * 16, 128),
            nn.ReLU(),
            nn.Linear(128, self.feature_size),
            nn.ReLU(),
        )
