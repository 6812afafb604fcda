"""Settings with which a private profile, or private training, would promise what it cannot keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from feddag_flwr.privacy.settings import TRAINED_PRIVATELY

if TYPE_CHECKING:
    from feddag_flwr.settings.composition import Settings

# Key, value, the value needed, and why.
Needed = tuple[str, object, object, str]


def privacy_refusals(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each setting that tells of samples what no epsilon would cover."""
    if settings.privacy.profile_on:
        yield from _of_profiles(settings)
    if settings.privacy.training_on:
        yield from _of_training(settings)


def _of_profiles(settings: Settings) -> Iterator[str]:
    private = f"with profile-epsilon = {settings.privacy.profile_epsilon:g}"
    algorithm: Needed = (
        "algorithm", settings.run.algorithm, "feddag",
        "the profiles of no other algorithm are private",
    )  # fmt: skip
    yield from _unmet([algorithm, *_joining(settings), *_of_phase_1(settings)], private)
    if settings.profile.view == "encoder":
        yield (
            f"view = 'encoder': must not be so {private}; an image's features depend on others of "
            "its batch, by rounding in single precision"
        )
    yield from _unnamed_classes(settings, private)


def _of_training(settings: Settings) -> Iterator[str]:
    algorithm = settings.run.algorithm
    private = f"with training-epsilon = {settings.privacy.training_epsilon:g}"
    if algorithm not in TRAINED_PRIVATELY:
        yield (
            f"algorithm = {algorithm!r}: must be one of {', '.join(TRAINED_PRIVATELY)} {private}; "
            "clients of others tell of training samples by more than trained parts"
        )
    if algorithm == "feddag" and not settings.privacy.profile_on:
        yield (
            f"profile-epsilon = 0: must be above 0 {private} and algorithm = 'feddag'; profiles "
            "without noise tell of the same samples"
        )
    yield from _unmet(_of_steps(settings), private)
    if not settings.privacy.profile_on:  # where it is on, this has been said
        yield from _unmet(_joining(settings), private)
        yield from _unnamed_classes(settings, private)


def _unmet(needed: list[Needed], private: str) -> Iterator[str]:
    for key, value, wanted, reason in needed:
        if value != wanted:
            yield f"{key} = {value!r}: {wanted!r} must be so {private}; {reason}"


def _unnamed_classes(settings: Settings, private: str) -> Iterator[str]:
    if settings.data.scenario == "own" and not settings.data.class_names:
        yield (
            f"class-names = '': must name the classes {private}; names that clients find in "
            "their data tell of it"
        )


def _joining(settings: Settings) -> list[Needed]:
    """Return what is needed for joining to tell nothing of samples."""
    data = settings.data
    return [
        (
            "modality",
            data.modality,
            "image",
            "what clients tell of other samples on joining has no noise",
        ),
        ("standardise", data.standardise, False, "moments of the pixels are not sent"),
        (
            "validation-share",
            data.validation_share,
            0.0,
            "one sample more would have others held back",
        ),
    ]


def _of_phase_1(settings: Settings) -> list[Needed]:
    """Return what private profiles need of phase 1 and of what is made of it."""
    warm_up = "encoders of the warm-up are not sent"
    clustering, sharing = settings.clustering, settings.sharing
    needed: list[Needed] = [
        (
            "fusion",
            settings.similarity.fusion,
            "evidence",
            "gradients of the warm-up are not sent, and chance has to be told from noise",
        ),
        ("initialisation", sharing.initialisation, "random", warm_up),
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
    ]
    if sharing.dual:
        needed.append(("secondary-start", sharing.secondary_start, "random", warm_up))
    return needed


def _of_steps(settings: Settings) -> list[Needed]:
    """Return what private training needs of the steps, and of what else trains."""
    run, training = settings.run, settings.training
    own_limit = "gradients of single samples are shortened by training-clip"
    more = "it trains more than is counted"
    return [
        ("compare", run.compare, False, more),
        ("personalisation-epochs", run.personalisation_epochs, 0, more),
        ("judges", settings.deployment.judges, 0, "losses on training data have no noise"),
        (
            "augmentation",
            training.augmentation,
            "none",
            "gradients are made sample by sample, and an augmentation draws for a whole batch",
        ),
        (
            "class-weights",
            training.class_weights,
            "none",
            "one sample more would change the weights of others",
        ),
        ("gradient-clipping", training.gradient_clipping, 0.0, own_limit),
        ("mixed-precision", training.mixed_precision, False, own_limit + ", in single precision"),
        (
            "device-memory",
            training.device_memory,
            0,
            "that samples do not fit would tell their number",
        ),
        ("trainer", training.trainer, "sequential", "another may take steps without noise"),
    ]
