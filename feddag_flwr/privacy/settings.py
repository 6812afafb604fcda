"""Section ``privacy``: how little a client's profile tells of any one sample."""

from __future__ import annotations

from typing import ClassVar

from feddag_flwr.sections import Above, Effect, Section, advanced

_ON: Effect = ({"profile-epsilon": Above(0)},)


class PrivacySettings(Section):
    """How little a client's profile tells of any one sample."""

    readers: ClassVar[tuple[str, ...]] = ("feddag",)

    profile_epsilon: float = advanced(
        0.0,
        "Epsilon of a client's profile, one training sample more or less; 0: no noise, and no "
        "promise. Covers profiles, not what training sends",
        ge=0,
        le=100,
    )
    profile_delta: float = advanced(
        1e-5,
        "Delta of a client's profile: well below one over a client's training samples",
        gt=0,
        le=0.01,
        effect=_ON,
    )
    profile_dimensions: int = advanced(
        16,
        "Values of a sample after the random projection that noise is added to",
        symbol="d'",
        ge=2,
        le=256,
        effect=_ON,
    )

    @property
    def on(self) -> bool:
        """Whether profiles are private."""
        return self.profile_epsilon > 0
