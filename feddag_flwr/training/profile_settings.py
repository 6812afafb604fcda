"""Section ``profile``: what a client computes of itself before the rounds (phase 1)."""

from __future__ import annotations

from typing import Literal

from feddag_flwr.sections import Section, advanced, setting


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
    view: Literal["auto", "raw", "resized", "projected"] = advanced(
        "auto",
        "What the subspaces are of: samples, images of 32 pixels at most, or random projections to "
        "1024 values; auto: samples of up to 3072 values, larger images resized",
        readers=("feddag", "pacfl"),
    )
    max_class_samples: int = advanced(
        1000, "Samples a class that enter the SVD at most (A.6.2)", ge=1, unit="samples"
    )
    min_subspace_samples: int = advanced(
        1,
        "Classes with fewer samples send no vectors (one sample's vector is that sample)",
        ge=1,
        unit="samples",
    )
