"""Whether an encoder treats each sample by itself, as private training needs it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.freezing import train_mode

_WANTED = "setting training-epsilon needs encoders that treat each sample by itself"


def check_sample_by_sample(model: str, encoder: nn.Module, example: Tensor) -> None:
    """Refuse an encoder that cannot be differentiated sample by sample.

    Batch norm in training mode is one, and so is what changes a buffer by what it sees. Layers are
    taken to be frozen as they are.

    Parameters
    ----------
    model : str
        What the setting ``model`` says.
    example : Tensor, shape (n, ...)
        Inputs; what they hold does not matter.

    Raises
    ------
    ModelError
        It is such an encoder.
    """
    train_mode(encoder)
    for name, layer in encoder.named_modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            raise ModelError(
                f"setting model = {model!r}: {name} is batch norm, which mixes samples; {_WANTED}: "
                "normalisation-layer = 'group', or frozen-layers with all of them"
            )
    parameters = {n: p.detach() for n, p in encoder.named_parameters() if p.requires_grad}

    def of_one(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        features: Tensor = functional_call(encoder, values, (sample[None],))
        return features.sum()

    devices = [example.device] if example.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            vmap(grad(of_one), in_dims=(None, 0), randomness="different")(parameters, example)
    except Exception as error:  # whatever a user's own encoder raises
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"setting model = {model!r}: cannot be differentiated sample by sample ({why}); "
            f"{_WANTED}"
        ) from error
