"""CFL-GP's own settings."""

from __future__ import annotations

from typing import Literal

from feddag_flwr.sections import Section, advanced, prefixed


class CFLGPSettings(Section, alias_generator=prefixed("cfl-gp")):
    """CFL-GP's own settings."""

    profile: Literal["update", "gradient"] = advanced(
        "update", "Cluster by local updates of common models, or by their gradients"
    )
    period: int = advanced(
        10,
        "Every so many rounds all clients send a gradient and are clustered anew",
        symbol="P",
        ge=1,
        le=100_000,
        unit="rounds",
    )
    last_round: int = advanced(50, "Clusters stay as they are after this round", ge=1, le=100_000)
