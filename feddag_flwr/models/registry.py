"""From the setting ``model`` to modules with a reproducible start."""

import importlib
from collections.abc import Callable

import torch
from torch import nn

from feddag_flwr.modalities import SampleSpec, load_modality
from feddag_flwr.models.backbones import Backbone, backbone_name
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.encoders import Cnn3Encoder, LeNetEncoder, SmallEncoder
from feddag_flwr.models.errors import ImageShapeError, ModelError
from feddag_flwr.models.normalisation import with_group_norm
from feddag_flwr.models.tabular import LinearEncoder, MlpEncoder
from feddag_flwr.seeds import derived_seed

EncoderFactory = Callable[..., nn.Module]

ENCODERS: dict[str, EncoderFactory] = {
    "small": SmallEncoder,
    "lenet": LeNetEncoder,
    "cnn3": Cnn3Encoder,
    "mlp": MlpEncoder,
    "linear": LinearEncoder,
}

# Names and shapes that have passed the check in this process: each request makes its model anew.
_checked: set[tuple[str, str, str, SampleSpec]] = set()


def imported_encoder(model: str) -> EncoderFactory:
    """Return the user's own factory of encoders; a `ModelError` says why there is none."""
    module_name, _, attribute = model.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # whatever importing foreign code raises
        why = f"{type(error).__name__}: {error}"
        raise ModelError(f"setting model = {model!r}: {why}") from error
    if not callable(factory):
        raise ModelError(f"setting model = {model!r}: not callable")
    return factory  # type: ignore[no-any-return]


def build_encoder(
    model: str,
    sample_shape: tuple[int, ...],
    *,
    modality: str = "image",
    details: str = "",
    normalisation: str = "batch",
) -> nn.Module:
    """Make one encoder.

    Parameters
    ----------
    model : str
        ``auto``, a name of `ENCODERS` or of torchvision (`Backbone`), or ``package.module:factory``
        where ``factory(sample_shape)`` returns a module with an int ``feature_size``.
    sample_shape : tuple of int
        Shape of one sample; of an image (channels, height, width).
    modality, details : str
        Kind of the samples, and what else it says of them (`SampleSpec`).
    normalisation : {"batch", "group"}
        Whether batch norm stays, or group norm takes its place.

    Raises
    ------
    ModelError
        What it makes, if it can, does not map a sample to ``feature_size`` finite features.
    """
    spec = SampleSpec(tuple(sample_shape), details)
    try:
        if model == "auto":
            encoder = load_modality(modality).default_encoder(spec)
        elif backbone := backbone_name(model):
            encoder = Backbone(backbone, sample_shape)
        else:
            factory = ENCODERS[model] if model in ENCODERS else imported_encoder(model)
            encoder = factory(sample_shape)
    except ModelError:
        raise
    except Exception as error:
        raise ImageShapeError(f"setting model = {model!r}: {error}") from error
    if normalisation == "group" and not (
        isinstance(encoder, nn.Module) and with_group_norm(encoder)
    ):
        raise ModelError(
            f"setting normalisation-layer = 'group': model {model!r} has no batch norm whose place "
            "group norm could take, must be 'batch'"
        )
    if (model, normalisation, modality, spec) not in _checked:
        _check(model, encoder, modality, spec)
        _checked.add((model, normalisation, modality, spec))
    return encoder


def _check(model: str, encoder: object, modality: str, spec: SampleSpec) -> None:
    """Run two empty samples through an encoder that a user wrote, before any client does."""
    if not isinstance(encoder, nn.Module):
        raise ModelError(f"setting model = {model!r}: made {type(encoder).__name__}, not nn.Module")
    size = getattr(encoder, "feature_size", None)
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"setting model = {model!r}: feature_size = {size!r}, must be an int >= 1")
    encoder.eval()
    try:
        with torch.no_grad():
            features = encoder(load_modality(modality).example(spec, 2))
            shape, finite = tuple(features.shape), bool(torch.isfinite(features).all())
    except Exception as error:
        raise ImageShapeError(
            f"setting model = {model!r}: fails on samples {spec.shape}: {error}"
        ) from error
    finally:
        encoder.train()
    if shape != (2, size):
        raise ModelError(f"setting model = {model!r}: maps 2 samples to {shape}, not (2, {size})")
    if not finite:
        raise ModelError(f"setting model = {model!r}: maps empty samples to NaN or infinity")
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ModelError(f"setting model = {model!r}: has no parameter to train")


def build_model(
    model: str,
    sample_shape: tuple[int, ...],
    num_classes: int,
    *,
    dual: bool,
    seed: int,
    modality: str = "image",
    details: str = "",
    normalisation: str = "batch",
) -> ClusterModel:
    """Make a cluster model for `num_classes`; its start depends on `seed` alone.

    With `dual` it has a secondary encoder, which starts from weights of its own. All else is as for
    `build_encoder`.
    """
    # Only the CPU's generator: parameters are drawn there, and seeding every GPU takes longer.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, "initial-primary"))
        primary = build_encoder(
            model, sample_shape, modality=modality, details=details, normalisation=normalisation
        )
        torch.default_generator.manual_seed(derived_seed(seed, "initial-secondary"))
        secondary = None
        if dual:
            secondary = build_encoder(
                model, sample_shape, modality=modality, details=details, normalisation=normalisation
            )
        torch.default_generator.manual_seed(derived_seed(seed, "initial-classifier"))
        return ClusterModel(primary, secondary, num_classes)
