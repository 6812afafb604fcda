"""Section ``privacy``: how little a client's profile and its training tell of any one sample."""

from __future__ import annotations

from typing import ClassVar

from feddag_flwr.sections import Above, Effect, Section, advanced

# Algorithms whose clients reply with trained parts and nothing else of their training data.
TRAINED_PRIVATELY = ("feddag", "fedavg", "fedprox", "oracle")

_ON: Effect = ({"profile-epsilon": Above(0)},)
_TRAINING_ON: Effect = ({"training-epsilon": Above(0)},)


class PrivacySettings(Section):
    """How little a client's profile and its training tell of any one sample."""

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
    training_epsilon: float = advanced(
        0.0,
        "Epsilon of a client's training in all num-rounds rounds, one training sample more or "
        "less; 0: no noise, and no promise",
        ge=0,
        le=100,
        readers=TRAINED_PRIVATELY,
    )
    training_delta: float = advanced(
        1e-5,
        "Delta of a client's training, and of all that is told as one epsilon: well below one over "
        "a client's training samples",
        gt=0,
        le=0.01,
        readers=TRAINED_PRIVATELY,
        effect=_TRAINING_ON,
    )
    training_clip: float = advanced(
        1.0,
        "Most Euclidean norm of the gradient of one sample, under private training",
        symbol="C",
        gt=0,
        le=1e6,
        readers=TRAINED_PRIVATELY,
        effect=_TRAINING_ON,
    )
    training_sampling_rate: float = advanced(
        0.1,
        "Chance with which a sample is part of a step of private training; an epoch has one over "
        "it steps",
        symbol="q",
        ge=1e-4,
        le=1,
        readers=TRAINED_PRIVATELY,
        effect=_TRAINING_ON,
    )

    @property
    def profile_on(self) -> bool:
        """Whether profiles are private."""
        return self.profile_epsilon > 0

    @property
    def training_on(self) -> bool:
        """Whether training is private."""
        return self.training_epsilon > 0

    @property
    def on(self) -> bool:
        """Whether any of it is private."""
        return self.profile_on or self.training_on

    @property
    def wanted_by(self) -> str:
        """The setting that makes something private."""
        return "profile-epsilon" if self.profile_on else "training-epsilon"
