"""Choice of the clustering, alpha*, from a sweep of thresholds (Sec. 3.4, Algorithm 3)."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from feddag_flwr.clustering.threshold import Candidate


def choose(candidates: Sequence[Candidate], split_persistence: float = 0.33) -> Candidate:
    """Choose the clustering that is at once stable under alpha and compact.

    The paper asks for "low loss and relatively few clusters" (Sec. 3.4 of arXiv 2602.23504) and
    leaves the rule open; this is the one used here. Every clustering of the sweep is scored by
    its persistence times its compactness. Persistence is the part of the threshold axis [0, 1]
    over which the clustering stays as it is: from the threshold where it appears to the next one
    with fewer clusters, or to 1. Compactness is 1 - min(L / Z, 1): L1 of Eq. 10 adds up one mean
    dissimilarity a cluster, so L / Z is the mean dissimilarity inside a cluster on the scale of
    the thresholds. The highest score wins; fewer clusters win a tie. Then the loss has its say: as
    long as the next finer clustering has a lower loss, lasts at least `split_persistence` times as
    long, and leaves no more clients alone, it takes the place of the chosen one; persistence alone
    would merge groups that share most of their classes. The clustering in which every client is
    alone is taken only if the sweep holds no other, because its loss of 0 says nothing; so is, from
    ten clients on, one in which more than half of them are.

    The candidates may come in any order; larger thresholds must not give more clusters. Returned is
    the one in the middle of the best clustering's thresholds, the lower middle when they are even
    in number: its threshold is alpha*.
    """
    runs = _runs(candidates)
    starts = [run[0].threshold for run in runs]
    lengths = [
        stop - start
        for start, stop in zip(starts, [*starts[1:], max(1.0, starts[-1])], strict=True)
    ]

    def score(place: int) -> tuple[float, int]:
        clusters, loss = runs[place][0].num_clusters, runs[place][0].loss
        return lengths[place] * (1.0 - min(loss / clusters, 1.0)), -clusters

    best = max(range(len(runs)), key=score)
    while best > 0 and _prefers_split(runs[best - 1][0], runs[best][0]):
        if lengths[best - 1] < split_persistence * lengths[best]:
            break
        best -= 1
    chosen = runs[best]
    return chosen[(len(chosen) - 1) // 2]


def _prefers_split(finer: Candidate, coarser: Candidate) -> bool:
    """Whether the loss prefers the finer clustering, and not for clients that it leaves alone."""
    return finer.loss < coarser.loss and finer.loners <= coarser.loners


def _runs(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Group candidates by clustering; cuts of one dendrogram agree when they are equally many."""
    if not candidates:
        raise ValueError("a choice needs at least one clustering, got none")
    ordered = sorted(candidates, key=lambda candidate: candidate.threshold)
    for lower, upper in pairwise(ordered):
        if upper.num_clusters > lower.num_clusters:
            raise ValueError(
                f"clusters must not grow with the threshold: {lower.num_clusters} at "
                f"{lower.threshold}, {upper.num_clusters} at {upper.threshold}"
            )
    telling = [candidate for candidate in ordered if not candidate.says_nothing] or ordered
    return [list(run) for _, run in groupby(telling, key=lambda candidate: candidate.num_clusters)]
