"""PACFL's own settings."""

from __future__ import annotations

from feddag_flwr.sections import Section, advanced, prefixed


class PACFLSettings(Section, alias_generator=prefixed("pacfl")):
    """PACFL's own settings."""

    threshold: float = advanced(
        0.0,
        "Threshold of the clustering; 0: it is told the number, num-clusters",
        symbol="beta",
        ge=0,
        le=90,
        unit="degrees",
    )
