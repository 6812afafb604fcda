"""From the setting ``model`` to modules with a reproducible start."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.encoders import Cnn3Encoder, ImageShape, LeNetEncoder, SmallEncoder
from feddag_flwr.seeds import derived_seed

EncoderFactory = Callable[[ImageShape], nn.Module]

ENCODERS: dict[str, EncoderFactory] = {
    "small": SmallEncoder,
    "lenet": LeNetEncoder,
    "cnn3": Cnn3Encoder,
}

# Names and shapes that have passed the check in this process: each request makes its model anew.
_checked: set[tuple[str, ImageShape]] = set()


class ModelError(ValueError):
    """The setting ``model`` names nothing that can be used."""


class ImageShapeError(ModelError):
    """The encoder cannot be made for images of this shape, or fails on them."""


def _automatic(sample_shape: ImageShape) -> EncoderFactory:
    channels, height, width = sample_shape
    if min(height, width) < 16:
        return SmallEncoder
    return LeNetEncoder if channels == 1 else Cnn3Encoder


def _imported(model: str) -> EncoderFactory:
    module_name, _, attribute = model.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever importing foreign code raises
        raise ModelError(f"setting model = {model!r}: {error}") from error
    if not callable(factory):
        raise ModelError(f"setting model = {model!r}: not callable")
    return factory  # type: ignore[no-any-return]


def build_encoder(model: str, sample_shape: ImageShape) -> nn.Module:
    """Make one encoder.

    Parameters
    ----------
    model : str
        ``auto``, a name of `ENCODERS`, or ``package.module:factory`` where
        ``factory((channels, height, width))`` returns a module with an int ``feature_size``.
    sample_shape : tuple of int
        (channels, height, width) of the images.

    Raises
    ------
    ModelError
        The name cannot be imported, or what it makes does not map one image to
        ``feature_size`` finite features.
    """
    if model == "auto":
        factory = _automatic(sample_shape)
    else:
        factory = ENCODERS[model] if model in ENCODERS else _imported(model)
    try:
        encoder = factory(sample_shape)
    except Exception as error:
        raise ImageShapeError(f"setting model = {model!r}: {error}") from error
    if (model, sample_shape) not in _checked:
        _check(model, encoder, sample_shape)
        _checked.add((model, sample_shape))
    return encoder


def _check(model: str, encoder: object, sample_shape: ImageShape) -> None:
    """Run two empty images through an encoder that a user wrote, before any client does."""
    if not isinstance(encoder, nn.Module):
        raise ModelError(f"setting model = {model!r}: made {type(encoder).__name__}, not nn.Module")
    size = getattr(encoder, "feature_size", None)
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"setting model = {model!r}: feature_size = {size!r}, must be an int >= 1")
    encoder.eval()
    try:
        with torch.no_grad():
            features = encoder(torch.zeros(2, *sample_shape))
            shape, finite = tuple(features.shape), bool(torch.isfinite(features).all())
    except Exception as error:
        raise ImageShapeError(
            f"setting model = {model!r}: fails on images {sample_shape}: {error}"
        ) from error
    finally:
        encoder.train()
    if shape != (2, size):
        raise ModelError(f"setting model = {model!r}: maps 2 images to {shape}, not (2, {size})")
    if not finite:
        raise ModelError(f"setting model = {model!r}: maps black images to NaN or infinity")
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ModelError(f"setting model = {model!r}: has no parameter to train")


def build_model(
    model: str, sample_shape: ImageShape, num_classes: int, *, dual: bool, seed: int
) -> ClusterModel:
    """Make a cluster model whose start depends on `seed` alone.

    Parameters
    ----------
    model, sample_shape
        As for `build_encoder`.
    num_classes : int
        Classes of the federation.
    dual : bool
        Whether there is a secondary encoder; it starts from weights of its own.
    seed : int
        The run's seed.

    Raises
    ------
    ModelError
        As for `build_encoder`.
    """
    # Only the CPU's generator: parameters are drawn there, and seeding every GPU takes longer.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, "initial-primary"))
        primary = build_encoder(model, sample_shape)
        torch.default_generator.manual_seed(derived_seed(seed, "initial-secondary"))
        secondary = build_encoder(model, sample_shape) if dual else None
        torch.default_generator.manual_seed(derived_seed(seed, "initial-classifier"))
        return ClusterModel(primary, secondary, num_classes)
