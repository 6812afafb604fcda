"""Draws that are stratified by class: a test part where there is none, a share of a part."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.samples import DataError, LabelledSamples, Parts
from feddag_flwr.seeds import generator


def stratified_test_indices(
    labels: NDArray[np.int64], fraction: float, seed: int, *, client: str = ""
) -> NDArray[np.int64]:
    """Draw the test samples of every class: ascending indices into `labels`.

    A class of n samples gives n * `fraction` of them, rounded half up, but at least one and never
    all; a class of a single sample gives none. `client` is whose own data this is; empty for a
    common dataset.
    """
    return _drawn(
        labels,
        lambda count: min(max(math.floor(count * fraction + 0.5), 1), count - 1),
        lambda label: generator(seed, f"hold-out-class-{label}", client=client),
    )


def _drawn(
    labels: NDArray[np.int64],
    share_of: Callable[[int], int],
    draws_of: Callable[[int], np.random.Generator],
) -> NDArray[np.int64]:
    """Draw so many samples of every class: ascending indices."""
    drawn = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        order = draws_of(label).permutation(len(members))
        drawn.append(members[order[: share_of(len(members))]])
    return np.sort(np.concatenate(drawn))


def held_back_indices(
    labels: NDArray[np.int64], share: float, seed: int, *, client: str
) -> NDArray[np.int64]:
    """Draw what `hold_back` keeps from training: ascending indices into `labels`."""
    return _drawn(
        labels if share else labels[:0],
        lambda count: min(math.floor(count * share + 0.5), count - 1),
        lambda label: generator(seed, f"validation-class-{label}", client=client),
    )


def hold_back(
    train: LabelledSamples, share: float, seed: int, *, client: str
) -> tuple[LabelledSamples, LabelledSamples | None]:
    """Part training data into what is trained on and what models are compared on.

    A class of n samples gives n * `share` of them, rounded half up, but never all. The second is
    None where that is nothing.
    """
    drawn = held_back_indices(train.labels, share, seed, client=client)
    if not len(drawn):
        return train, None
    kept = np.setdiff1d(np.arange(len(train)), drawn)
    return train.select(kept), train.select(drawn)


def stratified_share(
    part: LabelledSamples, share: float, seed: int, *, purpose: str
) -> LabelledSamples:
    """Keep a share of every class, drawn by seed: n * `share` rounded half up, but at least one.

    Samples stay in order; 1 returns `part` itself. `purpose` says what the draws are for.
    """
    if share == 1:
        return part
    kept = _drawn(
        part.labels,
        lambda count: max(math.floor(count * share + 0.5), 1),
        lambda label: generator(seed, f"{purpose}-class-{label}"),
    )
    return part.select(kept)


def with_test_part(
    parts: Parts, fraction: float, seed: int, *, origin: str, client: str = ""
) -> tuple[LabelledSamples, LabelledSamples]:
    """Return the training and test part, held out from the former where there is no test part.

    `DataError`, which begins with `origin`, where no class has two samples.
    """
    if parts.test is not None:
        return parts.train, parts.test
    test = stratified_test_indices(parts.train.labels, fraction, seed, client=client)
    if not len(test):
        raise DataError(
            f"{origin}: has no test part and none can be held out of {len(parts.train)} sample(s); "
            "expected two or more of at least one class (labels are classes, not measurements)"
        )
    kept = np.setdiff1d(np.arange(len(parts.train)), test)
    return parts.train.select(kept), parts.train.select(test)
