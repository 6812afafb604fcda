"""FedGWC's own settings."""

from __future__ import annotations

from feddag_flwr.sections import Section, advanced, prefixed


class FedGWCSettings(Section, alias_generator=prefixed("fedgwc")):
    """FedGWC's own settings."""

    rbf: float = advanced(
        0.1,
        "Kernel width exp(-gamma d^2) of the affinity of perceptions",
        symbol="gamma",
        gt=0,
        le=1e6,
    )
    epsilon: float = advanced(
        0.1,
        "Interactions stand still below this mean squared change, times 1/N^2",
        symbol="epsilon",
        gt=0,
        le=1e12,
    )
