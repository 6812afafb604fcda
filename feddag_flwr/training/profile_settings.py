"""Section ``profile``: what a client computes of itself before the rounds (phase 1)."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator, model_validator

from feddag_flwr.sections import Section, advanced, setting

_ENCODER = ({"view": ("encoder",)},)
# As torchvision has them; see `feddag_flwr.models.backbones`.
_PLACE = "torchvision.models"
_BACKBONES = ("resnet18", "resnet50", "efficientnet_b0", "vit_b_16")


class ProfileSettings(Section):
    """What a client computes of itself before the rounds (phase 1)."""

    warmup_rounds: int = advanced(2, "Rounds of local warm-up", symbol="t_g", ge=1, le=100)
    warmup_epochs: int = setting(10, "Local epochs in a warm-up round", ge=1, le=1000)
    gradient_fraction: float = advanced(
        0.02, "Share of the update's coordinates that a client sends", symbol="k", gt=0, le=1
    )
    subspace_size: float = advanced(
        3.0,
        "Singular vectors a class; below 1: that share of the class's samples",
        symbol="p",
        gt=0,
        le=1000,
    )
    view: Literal["auto", "raw", "resized", "projected", "encoder"] = advanced(
        "auto",
        "What the subspaces are of: samples, images of 32 pixels at most, random projections to "
        "1024 values, or features of view-model; auto: samples of up to 3072 values, larger images "
        "resized",
        readers=("feddag", "pacfl"),
    )
    view_model: str = advanced(
        "resnet18",
        "Frozen network of torchvision whose features the subspaces are of, as model names them",
        readers=("feddag", "pacfl"),
        effect=_ENCODER,
    )
    view_weights: str = advanced(
        "",
        "File of its weights, at the same place on every client's host",
        readers=("feddag", "pacfl"),
        effect=_ENCODER,
    )
    view_digest: str = advanced(
        "",
        "First digits of that file's SHA-256, 8 at least: clients with another file are left out",
        readers=("feddag", "pacfl"),
        effect=_ENCODER,
    )
    max_class_samples: int = advanced(
        1000, "Samples a class that enter the SVD at most (A.6.2)", ge=1, unit="samples"
    )
    min_subspace_samples: int = advanced(
        1,
        "Classes with fewer samples send no vectors: those of up to subspace-size samples give the "
        "samples themselves away",
        ge=1,
        unit="samples",
    )

    @field_validator("view_model")
    @classmethod
    def _known_network(cls, value: str) -> str:
        if value not in _BACKBONES and not re.fullmatch(rf"{re.escape(_PLACE)}:\w+", value):
            raise ValueError(f"must be {', '.join(_BACKBONES)} or {_PLACE}:NAME")
        return value

    @field_validator("view_digest")
    @classmethod
    def _hexadecimal(cls, value: str) -> str:
        if value and not re.fullmatch("[0-9a-f]{8,64}", value):
            raise ValueError("must be empty, or 8 to 64 digits from 0 to f")
        return value

    @model_validator(mode="after")
    def _encoder_is_named(self) -> ProfileSettings:
        for name in ("view_weights", "view_digest"):
            if self.view == "encoder" and not getattr(self, name):
                raise ValueError(f"{name.replace('_', '-')} = '': view = 'encoder' needs it")
        return self
