"""Hold-out of a test part from a source that has none, stratified by class."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.images import DataError, LabelledImages, Parts
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
        Name of the client whose own data this is; empty for a common source.

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


def with_test_part(
    parts: Parts, fraction: float, seed: int, *, origin: str, client: str = ""
) -> tuple[LabelledImages, LabelledImages]:
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
