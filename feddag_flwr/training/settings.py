"""Section ``local-training``: how a client trains a model, and on what device."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ValidationInfo, field_validator

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.registries import AUGMENTATIONS, OBJECTIVES, OPTIMISERS, TRAINERS
from feddag_flwr.registry import RegistryError, name_list
from feddag_flwr.sections import Section, advanced, setting

_REGISTRIES = {
    registry.setting: registry for registry in (AUGMENTATIONS, OBJECTIVES, OPTIMISERS, TRAINERS)
}
# What has training steps of its own, or none.
_OTHERS = tuple(name for name in ALGORITHMS if name != "per-fedavg")

# Encoders of images alone, and of vectors.
IMAGE_MODELS = (
    "small", "lenet", "cnn3", "resnet18", "resnet50", "efficientnet_b0", "vit_b_16",
)  # fmt: skip
VECTOR_MODELS = ("mlp", "linear")
_MODELS = (
    "auto", "small", "lenet", "cnn3", "mlp", "linear",
    "resnet18", "resnet50", "efficientnet_b0", "vit_b_16",
)  # fmt: skip


class LocalTrainingSettings(Section):
    """How a client trains a model, and on what device."""

    model: str = setting(
        "auto",
        "Encoder: auto, small, lenet, cnn3, mlp, linear, torchvision's resnet18, resnet50, "
        "efficientnet_b0, vit_b_16 or torchvision.models:NAME, or package.module:factory",
    )
    encoder_weights: str = advanced(
        "",
        "File of the weights that encoders start from, .safetensors, .pt or .pth, where the server "
        "runs; empty: random",
    )
    normalisation_layer: Literal["batch", "group"] = advanced(
        "batch",
        "Batch norm of the encoders stays (batch), or group norm of up to 32 groups takes its "
        "place (group)",
    )
    local_epochs: int = setting(10, "Epochs of local training a round and phase", ge=1, le=1000)
    local_steps: int = advanced(
        0,
        "Optimiser steps of local training a round and phase, in place of local-epochs; 0: epochs",
        ge=0,
        le=1_000_000,
        readers=_OTHERS,
    )
    batch_size: int = setting(64, "Mini-batch size", symbol="B", ge=1, le=100_000, unit="samples")
    objective: str = advanced(
        "cross-entropy",
        "What local training minimises: cross-entropy, or package.module:attribute",
    )
    optimiser: str = advanced(
        "sgd", "What takes the steps: sgd, adamw, or package.module:attribute"
    )
    learning_rate: float = setting(0.01, "Learning rate", symbol="eta", gt=0, le=10)
    momentum: float = advanced(0.5, "SGD momentum", ge=0, lt=1)
    weight_decay: float = advanced(1e-4, "Weight decay; AdamW's is decoupled", ge=0, le=1)
    rate_schedule: Literal["constant", "cosine"] = advanced(
        "constant", "How the learning rate goes over num-rounds rounds"
    )
    rate_warmup_rounds: int = advanced(
        0,
        "First rounds over which the learning rate rises in equal steps",
        ge=0,
        le=100_000,
        unit="rounds",
    )
    gradient_clipping: float = advanced(
        0.0, "Most Euclidean norm of a step's gradient; 0: any", ge=0, le=1e6, readers=_OTHERS
    )
    mixed_precision: bool = advanced(
        False,
        "Forward passes of training are autocast to bfloat16, which pays on a GPU",
        readers=_OTHERS,
    )
    augmentation: str = advanced(
        "none",
        "What is done to training images at random: none, standard (shift and mirror), "
        "randaugment, or package.module:attribute",
        readers=_OTHERS,
    )
    class_weights: Literal["none", "balanced"] = advanced(
        "none",
        "Weights of classes in the loss: none, or balanced (a client's classes count alike)",
        readers=_OTHERS,
    )
    label_smoothing: float = advanced(
        0.0,
        "Share of cross-entropy that goes to all classes alike",
        ge=0,
        lt=1,
    )
    frozen_layers: str = advanced(
        "",
        "Layers of the encoders that are never trained: beginnings of parameters' names, separated "
        "by commas",
    )
    diversity: float = advanced(
        0.0,
        "Weight of the diversity regulariser (Eq. 42)",
        symbol="lambda_div",
        ge=0,
        le=1000,
        readers=("feddag",),
    )
    trainer: str = advanced(
        "sequential",
        "What trains clients' models: sequential (one after the other), or "
        "package.module:attribute",
    )
    device: str = setting(
        "auto",
        "auto (the GPU when there is one), cpu, cuda or cuda:N",
        machine=True,
    )
    device_memory: int = advanced(
        0,
        "Most memory that a client's data, features and models may take; 0: no cap",
        ge=0,
        le=10_000_000,
        unit="MiB",
        machine=True,
        may_differ=True,
    )
    threads: int = advanced(
        1,
        "CPU threads of a client's PyTorch; part of what makes a run repeatable",
        ge=1,
        le=1024,
        machine=True,
    )

    @field_validator("frozen_layers")
    @classmethod
    def _layer_names(cls, value: str) -> str:
        if not all(re.fullmatch(r"\w+(\.\w+)*", layer) for layer in name_list(value)):
            raise ValueError("must be names of layers, separated by commas")
        return value

    @field_validator("augmentation", "objective", "optimiser", "trainer")
    @classmethod
    def _known_part(cls, value: str, info: ValidationInfo) -> str:
        registry = _REGISTRIES[str(info.field_name)]
        try:
            return registry.check(value)
        except RegistryError as error:
            raise ValueError(f"must be {registry.allowed}") from error

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch("auto|cpu|cuda(:[0-9]+)?", value):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return value

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in _MODELS and value.count(":") != 1:
            raise ValueError(
                f"must be {', '.join(_MODELS)}, torchvision.models:NAME or package.module:factory"
            )
        return value
