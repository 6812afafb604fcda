"""FedSoft's own settings."""

from __future__ import annotations

from feddag_flwr.sections import Section, advanced, prefixed


class FedSoftSettings(Section, alias_generator=prefixed("fedsoft")):
    """FedSoft's own settings."""

    lambda_: float = advanced(
        0.1, "Weight of the pull towards the centres", symbol="lambda", ge=0, le=1000
    )
    interval: int = advanced(
        2,
        "Every so many rounds the importance weights are estimated anew",
        symbol="tau",
        ge=1,
        le=100_000,
        unit="rounds",
    )
    floor: float = advanced(
        1e-4, "Least importance of a cluster for a client", symbol="sigma", gt=0, le=1
    )
