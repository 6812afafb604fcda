"""Ditto's own settings."""

from __future__ import annotations

from feddag_flwr.sections import Section, advanced, prefixed


class DittoSettings(Section, alias_generator=prefixed("ditto")):
    """Ditto's own settings."""

    lambda_: float = advanced(
        1.0,
        "Weight of the pull of personal models to the global one",
        symbol="lambda",
        ge=0,
        le=1000,
    )
