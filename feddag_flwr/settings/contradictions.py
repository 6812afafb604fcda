"""Settings of different sections that cannot be what they are at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.clustering.settings import MOST_CANDIDATES
from feddag_flwr.deployment.settings import JUDGED
from feddag_flwr.settings.privacy_refusals import privacy_refusals
from feddag_flwr.training.settings import IMAGE_MODELS, VECTOR_MODELS

if TYPE_CHECKING:
    from feddag_flwr.settings.composition import Settings


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield what is wrong: a setting, its value, and the other setting with which it is at odds."""
    clients = settings.run.num_clients
    grouped = settings.data.scenario in {"label-skew", "class-pairs"}
    if grouped and settings.data.client_groups > clients:
        yield f"client-groups = {settings.data.client_groups}: at most num-clients = {clients}"
    if settings.deployment.min_clients > clients:
        yield f"min-clients = {settings.deployment.min_clients}: at most num-clients = {clients}"
    if not settings.sharing.dual and settings.training.diversity > 0:
        yield (
            f"diversity = {settings.training.diversity}: needs a secondary encoder, must be 0 "
            "without one"
        )
    training = settings.training
    if training.label_smoothing and training.objective != "cross-entropy":
        yield (
            f"label-smoothing = {training.label_smoothing}: must be 0 with objective = "
            f"{training.objective!r}, is for cross-entropy"
        )
    yield from _models_of_other_data(settings)
    yield from _nothing_to_look_at(settings)
    yield from _too_many_models(settings)
    yield from _nobody_held_out(settings)
    if settings.clustering.refine_every and not settings.data.validation_share:
        yield (
            f"refine-every = {settings.clustering.refine_every}: needs data held back, "
            "validation-share above 0"
        )
    if settings.profile.view == "resized" and settings.data.modality != "image":
        yield (
            f"view = 'resized': modality {settings.data.modality!r} is none of images, which alone "
            "can be made smaller; 'projected' can be of any"
        )
    if settings.profile.view == "encoder" and settings.data.modality != "image":
        yield (
            f"view = 'encoder': modality {settings.data.modality!r} is none of images, which alone "
            "the networks take; 'projected' can be of any"
        )
    yield from _updates_nobody_can_judge(settings)
    yield from privacy_refusals(settings)
    yield from _changes_that_cannot_happen(settings)
    yield from _newcomers_nobody_places(settings)
    if settings.data.drift_looks != "none" and not settings.data.drift_share:
        yield f"drift-looks = {settings.data.drift_looks!r}: needs drift-share above 0"
    if settings.data.drift_looks != "none" and settings.data.modality != "image":
        yield f"drift-looks = {settings.data.drift_looks!r}: only images can be varied so"


def _models_of_other_data(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with an encoder of images where samples are none, or of vectors."""
    model, modality = settings.training.model, settings.data.modality
    if modality == "image" or ":" in modality:  # which shape samples of one's own have, they say
        return
    of_images = model in IMAGE_MODELS or model.startswith("torchvision.")
    if of_images or (modality == "series" and model in VECTOR_MODELS):
        others = "" if modality == "series" else f", {', '.join(VECTOR_MODELS)}"
        yield (
            f"model = {model!r}: is for {'images' if of_images else 'rows and embeddings'}, with "
            f"modality = {modality!r} must be auto{others} or package.module:factory"
        )


def _nothing_to_look_at(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with looks at data held back."""
    run, share = settings.run, settings.data.validation_share
    if run.keep != "last" and not share:
        yield f"keep = {run.keep!r}: needs data held back, validation-share above 0"
    if run.patience and not share:
        yield f"patience = {run.patience}: needs data held back, validation-share above 0"
    if run.keep != "last" and run.algorithm in {"ditto", "fedsoft"}:
        yield (
            f"keep = {run.keep!r}: must be 'last' with algorithm = {run.algorithm!r}, whose "
            "clients have models of their own"
        )


def _too_many_models(settings: Settings) -> Iterator[str]:
    """Yield what is wrong where an algorithm sends more models at once than a message carries."""
    algorithm, models = settings.run.algorithm, settings.clustering.num_clusters
    entry = ALGORITHMS.get(algorithm)
    if entry is not None and entry.candidates and models > MOST_CANDIDATES:
        yield (
            f"num-clusters = {models}: at most {MOST_CANDIDATES} under algorithm = {algorithm!r}, "
            "which sends all models in one message"
        )


def _updates_nobody_can_judge(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with judges of updates that are about no cluster's model."""
    algorithm, judges = settings.run.algorithm, settings.deployment.judges
    if judges and algorithm in ALGORITHMS and algorithm not in JUDGED:
        yield (
            f"judges = {judges}: must be 0 with algorithm = {algorithm!r}; updates of "
            f"{', '.join(JUDGED)} alone can be judged"
        )


def _nobody_held_out(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with a share of clients to hold out that is nobody."""
    share, clients = settings.data.held_out_share, settings.run.num_clients
    if share and min(round(share * clients), clients - 2) < 1:
        yield (
            f"held-out-share = {share}: 0 of num-clients = {clients}, must be 0, or one at least "
            "and leave two to train"
        )


def _changes_that_cannot_happen(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with clients that join or drift on the way."""
    run, data = settings.run, settings.data
    for what, share, happens in (
        ("newcomer", data.newcomer_share, data.newcomer_round),
        ("drift", data.drift_share, data.drift_round),
    ):
        if share and happens > run.num_rounds:
            yield (
                f"{what}-round = {happens}: at most num-rounds = {run.num_rounds}, for "
                f"{what}-share = {share}"
            )
    late, drifting = (
        round(share * run.num_clients) for share in (data.newcomer_share, data.drift_share)
    )
    if data.newcomer_share and not 1 <= late <= run.num_clients - 2:
        yield (
            f"newcomer-share = {data.newcomer_share}: {late} of num-clients = "
            f"{run.num_clients}, must be one at least and leave two to begin with"
        )
    if data.drift_share and drifting < 2:
        yield (
            f"drift-share = {data.drift_share}: {drifting} of num-clients = "
            f"{run.num_clients}, must be two at least that can swap"
        )


def _newcomers_nobody_places(settings: Settings) -> Iterator[str]:
    """Yield what is wrong with newcomers that have no labels."""
    if not settings.data.newcomers_unlabelled:
        return
    if not settings.data.newcomer_share:
        yield "newcomers-unlabelled = True: needs newcomer-share above 0"
    if settings.clustering.unlabelled == "refuse":
        yield "newcomers-unlabelled = True: needs unlabelled = 'place'"
