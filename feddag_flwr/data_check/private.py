"""What the server learns of a client by a private profile: an example, with noise of its own."""

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.algorithms.feddag.messages import private_arrays
from feddag_flwr.data.client import ClientData
from feddag_flwr.data_check.items import Item, nbytes_of
from feddag_flwr.data_check.seen import as_seen
from feddag_flwr.data_check.words import listed, several
from feddag_flwr.modalities import load_modality
from feddag_flwr.privacy.training import PrivacyCosts
from feddag_flwr.privacy.words import promise
from feddag_flwr.profile import Profile
from feddag_flwr.records import RequestHeader
from feddag_flwr.settings import Settings
from feddag_flwr.subspace_view import SubspaceView
from feddag_flwr.training.private_profile import private_profile, projection_of


def private_profile_of(data: ClientData, settings: Settings) -> Profile:
    """Make a private profile as the client will, with noise that is drawn for this alone."""
    seen = as_seen(data, settings)
    return private_profile(seen.data.train, settings, len(data.class_names), seen.scale, seen.spec)


def put_back(
    profile: Profile, view: SubspaceView, settings: Settings
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make samples of projected vectors: the shortest that are projected so, brought to length 1.

    Returns vectors, shape (rows, d), and the class of each.
    """
    projection, vectors = projection_of(view, settings), profile.vectors.astype(np.float64)
    if projection is not None:
        vectors = vectors @ np.linalg.pinv(projection).T
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), profile.vector_classes


def private_items(profile: Profile, header: RequestHeader, settings: Settings) -> list[Item]:
    """List what a private profile tells, and, unless training is private too, what it promises."""
    message, when = header.reply(arrays=private_arrays(profile)), "once a run, with noise"
    counts = [
        f"{name}: {count:,}"
        for name, count in zip(header.class_names, profile.counts.tolist(), strict=True)
        if count
    ]
    noun = load_modality(settings.data.modality).noun
    rows, length = profile.vectors.shape
    vectors = f"{several(rows, f'projected {noun}')} of {length:,} numbers"
    told = f"for instance {listed(counts)}; other classes: none"
    nbytes = nbytes_of(message, "vectors", "vector-classes")
    promised = [] if settings.privacy.training_on else [promise_item(when, settings)]
    return [
        Item(when, "count of each class", told, nbytes_of(message, "counts")),
        Item(when, "principal vectors", f"for instance {vectors}", nbytes),
        *promised,
    ]


def promise_item(when: str, settings: Settings) -> Item:
    """Say what is promised of a client that takes part in every round."""
    return Item(when, "promise", promise_of(settings), 0)


def promise_of(settings: Settings) -> str:
    """Return the same as a sentence."""
    costs, privacy = PrivacyCosts.of(settings), settings.privacy
    return promise(
        costs.epsilon(costs.planned),
        costs.delta,
        profile=privacy.profile_on,
        training=privacy.training_on,
    )
