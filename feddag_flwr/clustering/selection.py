"""Choice of the clustering, alpha*, from a sweep of thresholds (Sec. 3.4, Algorithm 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a threshold sweep, as in Table 19.

    Attributes
    ----------
    threshold : float
        alpha.
    num_clusters : int
        Z, the number of clusters at that threshold.
    loss : float
        L of Eq. 9; a value capped at 1, as in the paper's tables, will do.
    """

    threshold: float
    num_clusters: int
    loss: float

    @property
    def says_nothing(self) -> bool:
        """Whether (nearly) nobody is known to be together; a mere row does not say."""
        return False

    @property
    def loners(self) -> int:
        """Clusters known to hold one client, which add nothing to the loss; 0 in a mere row."""
        return 0


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True)
class Score:
    """How one clustering of a sweep fares in `choose`.

    Attributes
    ----------
    num_clusters : int
        Z.
    start, stop : float
        Thresholds between which the clustering does not change.
    compactness : float
        1 - min(L / Z, 1).
    value : float
        (stop - start) times compactness: the score.
    """

    num_clusters: int
    start: float
    stop: float
    compactness: float
    value: float

    @property
    def length(self) -> float:
        """Persistence, stop - start."""
        return self.stop - self.start


def choose(rows: Sequence[AnyRow], split_persistence: float = 0.33) -> AnyRow:
    """Choose the clustering that is at once stable under alpha and compact.

    The paper asks for "low loss and relatively few clusters" (Sec. 3.4 of arXiv 2602.23504) and
    leaves the rule open; this is the one used here. Every clustering of the sweep is scored by
    its persistence times its compactness. Persistence is the part of the threshold axis [0, 1]
    over which the clustering stays as it is: from the threshold where it appears to the next one
    with fewer clusters, or to 1. Compactness is 1 - min(L / Z, 1): L1 of Eq. 10 adds up one mean
    dissimilarity a cluster, so L / Z is the mean dissimilarity inside a cluster on the scale of
    the thresholds, and a loss above 1 that is only due to many clusters does not count against
    them. The highest score lowest; fewer clusters win a tie. Then the loss has its say: as long as
    the next finer clustering has a lower loss, lasts at least `split_persistence` times as long,
    and leaves no more clients alone, it takes the place of the chosen one; groups that share most
    of their classes stay close for long, and persistence alone would merge them although the loss
    prefers them apart. The clustering in which every client is alone is taken only if the sweep
    holds no other, because its loss of 0 says nothing; so is, from ten clients on, one in which
    more than half of them are.

    Parameters
    ----------
    rows : sequence of Row
        The sweep in any order, for instance the candidates of `sweep`; larger thresholds must
        not give more clusters.
    split_persistence : float
        In [0, 1]; 1 leaves persistence the last word more often, 0 the loss.

    Returns
    -------
    Row
        alpha*: the member of `rows` in the middle of the best clustering's thresholds (the lower
        middle when they are even in number).

    Raises
    ------
    ValueError
        If there are no rows, or the number of clusters grows with the threshold.

    Examples
    --------
    >>> table = [(0.2, 9, 0.1), (0.3, 4, 0.2), (0.4, 4, 0.2), (0.8, 1, 0.7)]
    >>> choose([Row(threshold=a, num_clusters=z, loss=l) for a, z, l in table]).threshold
    0.3
    """
    runs = _runs(rows)
    scored = _scores(runs)
    best = max(range(len(runs)), key=lambda i: (scored[i].value, -scored[i].num_clusters))
    while best > 0 and _prefers_split(runs[best - 1][0], runs[best][0]):
        if scored[best - 1].length < split_persistence * scored[best].length:
            break
        best -= 1
    chosen = runs[best]
    return chosen[(len(chosen) - 1) // 2]


def _prefers_split(finer: Row, coarser: Row) -> bool:
    """Whether the loss prefers the finer clustering, and not for clients that it leaves alone."""
    return finer.loss < coarser.loss and finer.loners <= coarser.loners


def scores(rows: Sequence[Row]) -> list[Score]:
    """Score every clustering of a sweep as `choose` does, for reports and plots.

    Parameters
    ----------
    rows : sequence of Row
        As for `choose`.

    Returns
    -------
    list of Score
        By ascending threshold, one for each number of clusters that takes part.

    Raises
    ------
    ValueError
        As for `choose`.
    """
    return _scores(_runs(rows))


def _runs(rows: Sequence[AnyRow]) -> list[list[AnyRow]]:
    """Group the rows by clustering; cuts of one dendrogram agree when they are equally many."""
    if not rows:
        raise ValueError("a choice needs at least one clustering, got none")
    ordered = sorted(rows, key=lambda row: row.threshold)
    for lower, upper in pairwise(ordered):
        if upper.num_clusters > lower.num_clusters:
            raise ValueError(
                f"clusters must not grow with the threshold: {lower.num_clusters} at "
                f"{lower.threshold}, {upper.num_clusters} at {upper.threshold}"
            )
    runs: list[list[AnyRow]] = []
    for row in [row for row in ordered if not row.says_nothing] or ordered:
        if runs and runs[-1][0].num_clusters == row.num_clusters:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _scores(runs: list[list[AnyRow]]) -> list[Score]:
    """Multiply persistence and compactness for each run of rows."""
    starts = [run[0].threshold for run in runs]
    stops = [*starts[1:], max(1.0, starts[-1])]
    result = []
    for run, start, stop in zip(runs, starts, stops, strict=True):
        clusters = run[0].num_clusters
        compactness = 1.0 - min(run[0].loss / clusters, 1.0)
        result.append(Score(clusters, start, stop, compactness, (stop - start) * compactness))
    return result
