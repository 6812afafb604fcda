"""FedProx's own settings."""

from __future__ import annotations

from feddag_flwr.sections import Section, advanced, prefixed


class FedProxSettings(Section, alias_generator=prefixed("fedprox")):
    """FedProx's own settings."""

    mu: float = advanced(0.01, "Weight of the proximal term", symbol="mu", ge=0, le=1000)
