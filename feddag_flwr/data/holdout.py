"""Draws that are stratified by class: a test part where there is none, a share of a part."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.samples import DataError, LabelledSamples, Parts
from feddag_flwr.seeds import generator


def stratified_test_indices(
    labels: NDArray[np.int64], fraction: float, seed: int, *, client: str = ""
) -> NDArray[np.int64]:
    """Draw the test samples of every class.

    A class of n samples gives n * `fraction` of them, rounded half up, but at least one and never
    all; a class of a single sample gives none.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Labels of all samples.
    fraction : float
        Share held out (setting ``test-fraction``).
    seed : int
        The run's seed.
    client : str, optional
        Name of the client whose own data this is; empty for a common dataset.

    Returns
    -------
    ndarray
        Ascending indices into `labels`.
    """
    held_out = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(math.floor(len(members) * fraction + 0.5), 1), len(members) - 1)
        order = generator(seed, f"hold-out-class-{label}", client=client).permutation(len(members))
        held_out.append(members[order[:count]])
    return np.sort(np.concatenate(held_out))


def stratified_share(
    part: LabelledSamples, share: float, seed: int, *, purpose: str
) -> LabelledSamples:
    """Keep a share of every class, drawn by seed: n * `share` rounded half up, but at least one.

    Parameters
    ----------
    part : LabelledSamples
        The samples, which stay in order.
    share : float
        Setting ``train-share`` or ``test-share``; 1 returns `part` itself.
    seed : int
        The run's seed.
    purpose : str
        What the draws are for.
    """
    if share == 1:
        return part
    kept = [np.empty(0, dtype=np.int64)]
    for label in np.unique(part.labels):
        members = np.flatnonzero(part.labels == label)
        count = max(math.floor(len(members) * share + 0.5), 1)
        order = generator(seed, f"{purpose}-class-{label}").permutation(len(members))
        kept.append(members[order[:count]])
    return part.select(np.sort(np.concatenate(kept)))


def with_test_part(
    parts: Parts, fraction: float, seed: int, *, origin: str, client: str = ""
) -> tuple[LabelledSamples, LabelledSamples]:
    """Return the training and test part, held out from the former where there is no test part.

    Raises
    ------
    DataError
        When no class has two samples; the message begins with `origin`.
    """
    if parts.test is not None:
        return parts.train, parts.test
    test = stratified_test_indices(parts.train.labels, fraction, seed, client=client)
    if not len(test):
        raise DataError(
            f"{origin}: has no test part and none can be held out of {len(parts.train)} image(s); "
            "expected two or more of at least one class"
        )
    in_train = np.ones(len(parts.train), dtype=bool)
    in_train[test] = False
    return parts.train.select(np.flatnonzero(in_train)), parts.train.select(test)
