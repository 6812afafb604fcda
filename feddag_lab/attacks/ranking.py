"""How well scores tell members from others: AUC, and true positives at few false ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

Scores = NDArray[np.float64]

RESAMPLES = 1000
FALSE_POSITIVES = 0.01


class Separation(NamedTuple):
    """AUC with the ends of its interval."""

    auc: float
    low: float
    high: float


def auc(inside: Scores, outside: Scores, weights: Scores | None = None) -> float:
    """Chance that a member scores higher than another; half where both are equal.

    `weights` (m,) say how much each of those outside counts; 1 by default.
    """
    labels, scores, counted = _joined(inside, outside, weights)
    return float(roc_auc_score(labels, scores, sample_weight=counted))


def true_positives(
    inside: Scores, outside: Scores, weights: Scores | None = None, false: float = FALSE_POSITIVES
) -> float:
    """Share of members above the lowest threshold that a share `false` of others exceed at most."""
    labels, scores, counted = _joined(inside, outside, weights)
    wrong, right, _ = roc_curve(labels, scores, sample_weight=counted, drop_intermediate=False)
    return float(right[wrong <= false + 1e-12].max())


def _joined(
    inside: Scores, outside: Scores, weights: Scores | None
) -> tuple[NDArray[np.bool_], Scores, Scores]:
    labels = np.repeat([True, False], [len(inside), len(outside)])
    counted = np.ones(len(outside)) if weights is None else weights
    return (
        labels,
        np.concatenate([inside, outside]),
        np.concatenate([np.ones(len(inside)), counted]),
    )


def class_weights(inside: NDArray[np.int64], outside: NDArray[np.int64]) -> Scores:
    """Weigh those outside so that their classes are as frequent as those inside, by both's labels.

    Else a score that is high for a class, whoever's images they are, would pass for an attack.
    """
    size = int(max(inside.max(), outside.max())) + 1
    own, others = (np.bincount(labels, minlength=size) for labels in (inside, outside))
    weights: Scores = (own / np.maximum(others, 1))[outside]
    return weights


def separation(inside: Scores, outside: Scores, rng: np.random.Generator) -> Separation:
    """Measure how members are told from others.

    Parameters
    ----------
    inside, outside : ndarray, shapes (n,), (m,)
        Scores of members and of others; high means member.
    rng : numpy.random.Generator
        Draws the replicates of the bootstrap: members and others apart, percentile interval of
        95 % (Efron and Tibshirani 1993, Sec. 13.3).
    """
    found = stats.bootstrap(
        (inside, outside), _auc_by_ranks, n_resamples=RESAMPLES, vectorized=True, axis=-1,
        method="percentile", random_state=rng, batch=50,
    )  # fmt: skip
    low, high = found.confidence_interval
    return Separation(auc(inside, outside), float(low), float(high))


def _auc_by_ranks(inside: Scores, outside: Scores, axis: int = -1) -> Scores:
    """AUC of many replicates at once, by the rank sum of the members (Mann and Whitney 1947)."""
    count, others = inside.shape[axis], outside.shape[axis]
    ranks = stats.rankdata(np.concatenate([inside, outside], axis=axis), axis=axis)
    total = np.take(ranks, range(count), axis=axis).sum(axis=axis)
    areas: Scores = (total - count * (count + 1) / 2) / (count * others)
    return areas
