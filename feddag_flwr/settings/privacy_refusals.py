"""Settings with which a private profile would promise what it cannot keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feddag_flwr.settings.composition import Settings


def privacy_refusals(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each setting that tells of samples what no epsilon would cover."""
    if not settings.privacy.on:
        return
    private = f"with profile-epsilon = {settings.privacy.profile_epsilon:g}"
    for key, value, wanted, reason in _needed(settings):
        if value != wanted:
            yield f"{key} = {value!r}: {wanted!r} must be so {private}; {reason}"
    if settings.profile.view == "encoder":
        yield (
            f"view = 'encoder': must not be so {private}; an image's features depend on others of "
            "its batch, by rounding in single precision"
        )
    if settings.data.scenario == "own" and not settings.data.class_names:
        yield (
            f"class-names = '': must name the classes {private}; names that clients find in "
            "their data tell of it"
        )


def _needed(settings: Settings) -> Iterator[tuple[str, object, object, str]]:
    """Yield key, value, the value needed, and why."""
    yield (
        "algorithm", settings.run.algorithm, "feddag",
        "the profiles of no other algorithm are private",
    )  # fmt: skip
    yield (
        "modality", settings.data.modality, "image",
        "what clients tell of other samples on joining has no noise",
    )  # fmt: skip
    yield (
        "fusion", settings.similarity.fusion, "evidence",
        "gradients of the warm-up are not sent, and chance has to be told from noise",
    )  # fmt: skip
    yield (
        "initialisation", settings.sharing.initialisation, "random",
        "encoders of the warm-up are not sent",
    )  # fmt: skip
    if settings.sharing.dual:
        yield (
            "secondary-start", settings.sharing.secondary_start, "random",
            "encoders of the warm-up are not sent",
        )  # fmt: skip
    yield (
        "standardise", settings.data.standardise, False,
        "moments of the pixels are not sent",
    )  # fmt: skip
    yield (
        "unlabelled", settings.clustering.unlabelled, "refuse",
        "principal vectors of all images together are not sent",
    )  # fmt: skip
    yield (
        "looks-level", settings.clustering.looks_level, 0.0,
        "how classes look is not sent",
    )  # fmt: skip
    yield (
        "drift-threshold", settings.clustering.drift_threshold, 0.0,
        "telling a client's drift, and a profile after it, would cost more",
    )  # fmt: skip
    yield (
        "validation-share", settings.data.validation_share, 0.0,
        "one sample more would have others held back",
    )  # fmt: skip
