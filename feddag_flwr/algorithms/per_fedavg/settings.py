"""Per-FedAvg's own settings."""

from __future__ import annotations

from feddag_flwr.sections import Section, advanced, prefixed


class PerFedAvgSettings(Section, alias_generator=prefixed("per-fedavg")):
    """Per-FedAvg's own settings."""

    alpha: float = advanced(0.01, "Rate of the inner step", symbol="alpha", gt=0, le=10)
