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


def _needed(settings: Settings) -> list[tuple[str, object, object, str]]:
    """Return key, value, the value needed, and why."""
    warm_up = "encoders of the warm-up are not sent"
    run, data, clustering, sharing = (
        settings.run, settings.data, settings.clustering, settings.sharing,
    )  # fmt: skip
    needed: list[tuple[str, object, object, str]] = [
        ("algorithm", run.algorithm, "feddag", "the profiles of no other algorithm are private"),
        (
            "modality",
            data.modality,
            "image",
            "what clients tell of other samples on joining has no noise",
        ),
        (
            "fusion",
            settings.similarity.fusion,
            "evidence",
            "gradients of the warm-up are not sent, and chance has to be told from noise",
        ),
        ("initialisation", sharing.initialisation, "random", warm_up),
        ("standardise", data.standardise, False, "moments of the pixels are not sent"),
        (
            "unlabelled",
            clustering.unlabelled,
            "refuse",
            "principal vectors of all images together are not sent",
        ),
        ("looks-level", clustering.looks_level, 0.0, "how classes look is not sent"),
        (
            "drift-threshold",
            clustering.drift_threshold,
            0.0,
            "telling a client's drift, and a profile after it, would cost more",
        ),
        (
            "validation-share",
            data.validation_share,
            0.0,
            "one sample more would have others held back",
        ),
    ]
    if sharing.dual:
        needed.append(("secondary-start", sharing.secondary_start, "random", warm_up))
    return needed
