"""Updates that are absurdly longer than the round's others are left out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping

from feddag_flwr.aggregation import Weights, distance
from feddag_flwr.records import TrainReply

logger = logging.getLogger("flwr")


def without_outliers(replies: Mapping[str, TrainReply], ratio: float) -> dict[str, TrainReply]:
    """Leave out replies with an update of excessive length (``max-update-ratio``), and log them.

    One finite but huge update would spoil its cluster's model for good. The yardstick is the lower
    median, a part, over all replies of the round. The models of a mixture count together: a client
    moves those most that answer for most of its data, so one model's updates differ by nature.
    """
    lengths = {name: _lengths(reply) for name, reply in replies.items()}
    excessive = too_long(lengths, ratio, "train")
    return {name: reply for name, reply in replies.items() if name not in excessive}


def too_long(lengths: Mapping[str, Mapping[str, float]], ratio: float, kind: str) -> set[str]:
    """Find clients with an update of a part longer than `ratio` lower medians, and log them.

    An update of length 0 is never excessive, and is no yardstick for others.
    """
    excessive: set[str] = set()
    for part in sorted({part for by_part in lengths.values() for part in by_part}):
        of_clients = {name: by_part[part] for name, by_part in lengths.items() if part in by_part}
        # Who has not trained at all makes nobody else's update long.
        ordered = sorted(
            length for name, length in of_clients.items() if length and name not in excessive
        )
        for name in sorted(of_clients.keys() - excessive) if ordered else ():
            if of_clients[name] <= ratio * ordered[(len(ordered) - 1) // 2]:
                continue
            logger.warning(
                "%s: client %s is left out: its update of %s has length %.3g, more than "
                "max-update-ratio = %g times the median",
                kind, name, part, of_clients[name], ratio,
            )  # fmt: skip
            excessive.add(name)
    return excessive


def mean_lengths(replies: Mapping[str, TrainReply]) -> dict[str, float]:
    """Mean Euclidean length of the clients' updates, by part.

    It tells whether a part learns at all: ``shared`` is the update of S'.
    """
    lengths = [_lengths(reply) for reply in replies.values()]
    parts = sorted({part for by_part in lengths for part in by_part})
    return {
        part: math.fsum(of_clients) / len(of_clients)
        for part in parts
        if (of_clients := [by_part[part] for by_part in lengths if part in by_part])
    }


def _lengths(reply: TrainReply) -> dict[str, float]:
    """Length of the update by part; of a mixture, over all models."""
    lengths: dict[str, float] = {}
    for name, weights in reply.parts.items():
        part = name.rpartition("/")[2]
        for what, one in update_lengths(weights, reply.starts[name], part):
            lengths[what] = math.hypot(lengths.get(what, 0.0), one)
    return lengths


def update_lengths(trained: Weights, start: Weights, part: str) -> Iterator[tuple[str, float]]:
    """Yield how far a part's parameters have moved, and its buffers, where it has any."""
    yield part, distance(trained.floats, start.floats)
    if trained.buffers.size:
        yield f"{part}'s buffers", distance(trained.buffers, start.buffers)
