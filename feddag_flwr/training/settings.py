"""Section ``local-training``: how a client trains a model, and on what device."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator

from feddag_flwr.registries import OBJECTIVES, OPTIMISERS, TRAINERS
from feddag_flwr.registry import RegistryError
from feddag_flwr.sections import Section, advanced, setting

_REGISTRIES = {registry.setting: registry for registry in (OBJECTIVES, OPTIMISERS, TRAINERS)}

_MODELS = ("auto", "small", "lenet", "cnn3", "mlp", "linear")


class LocalTrainingSettings(Section):
    """How a client trains a model, and on what device."""

    model: str = setting(
        "auto",
        "Encoder: auto, small, lenet, cnn3, mlp, linear, or package.module:factory",
        min_length=1,
    )
    local_epochs: int = setting(10, "Epochs of local training a round and phase", ge=1, le=1000)
    batch_size: int = setting(64, "Mini-batch size", symbol="B", ge=1, le=100_000, unit="samples")
    objective: str = advanced(
        "cross-entropy",
        "What local training minimises: cross-entropy, or package.module:attribute",
        min_length=1,
    )
    optimiser: str = advanced(
        "sgd", "What takes the steps: sgd, or package.module:attribute", min_length=1
    )
    learning_rate: float = setting(0.01, "SGD learning rate", symbol="eta", gt=0, le=10)
    momentum: float = advanced(0.5, "SGD momentum", ge=0, lt=1)
    weight_decay: float = advanced(1e-4, "SGD weight decay", ge=0, le=1)
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
        min_length=1,
    )
    device: str = setting(
        "auto",
        "auto (the GPU when there is one), cpu, cuda or cuda:N",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
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

    @field_validator("objective", "optimiser", "trainer")
    @classmethod
    def _known_part(cls, value: str, info: ValidationInfo) -> str:
        registry = _REGISTRIES[str(info.field_name)]
        try:
            return registry.check(value)
        except RegistryError as error:
            raise ValueError(f"must be {registry.allowed}") from error

    @field_validator("model")
    @classmethod
    def _known_model(cls, value: str) -> str:
        if value not in _MODELS and value.count(":") != 1:
            raise ValueError(f"must be {', '.join(_MODELS)} or package.module:factory")
        return value
