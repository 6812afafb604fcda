"""Bytes between the server and its clients, counted in three ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from flwr.app import RecordDict

from feddag_flwr.records.sizes import arrays_nbytes, content_nbytes, statistics_nbytes

Counts = Mapping[str, Mapping[str, int]]

# What is counted: arrays as serialised; whole messages as protobuf; and the least that the
# algorithm must move in this number format: the values of the weights and statistics that are
# needed, without names, headers and framing.
ARRAYS, SENT, LEAST = "bytes", "bytes-sent", "bytes-least"
WAYS = ("down", "up")


class Traffic:
    """Counts messages by direction and kind, until `take` starts anew."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def take(self) -> dict[str, Counts]:
        """Return the counts since the last call, by what is counted, direction and kind.

        Kinds of which something was sent, in the order of their names.
        """
        taken: dict[str, Counts] = {
            what: {
                way: dict(sorted((+self._counts.get((what, way), Counter())).items()))
                for way in WAYS
            }
            for what in (ARRAYS, SENT, LEAST)
        }
        self._counts = {}
        return taken

    def count(self, way: str, kind: str, content: RecordDict, least: int) -> None:
        """Count a message ``down`` or ``up`` that has to carry so many bytes.

        Of a reply these are its weights; statistics come on top.
        """
        if way == "up":
            least += statistics_nbytes(content)
        sizes = {ARRAYS: arrays_nbytes(content), SENT: content_nbytes(content), LEAST: least}
        for what, size in sizes.items():
            self._counts.setdefault((what, way), Counter())[kind] += size


def overhead(sums: Mapping[str, int]) -> float | None:
    """Return how many times the least was sent, to four digits; None where nothing was needed."""
    return round(sums[SENT] / sums[LEAST], 4) if sums[LEAST] else None


def total(counts: Counts) -> int:
    """Sum over directions and kinds."""
    return sum(sum(kinds.values()) for kinds in counts.values())
