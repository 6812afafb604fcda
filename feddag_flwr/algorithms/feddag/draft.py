"""Clusters as a check on held-back data would have them, and what it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from feddag_flwr.algorithms.feddag.choosing import Parts
from feddag_flwr.algorithms.feddag.held_back import Choice
from feddag_flwr.records import Model


class Change(NamedTuple):
    """One change: its kind, the clusters before and after, and what clients lose on the mean.

    `clients` counts those of each cluster afterwards, but before a merge; `name` is who moves.
    """

    kind: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    clients: tuple[int, ...]
    name: str = ""
    losses: tuple[float, float] = (0.0, 0.0)

    def notes(self) -> dict[str, Any]:
        """Return it as plain values."""
        notes: dict[str, Any] = {
            "kind": self.kind,
            "from": list(self.before),
            "to": list(self.after),
            "clients": list(self.clients),
            "loss-before": self.losses[0],
            "loss-after": self.losses[1],
        }
        return notes | ({"client": self.name} if self.name else {})

    def __str__(self) -> str:
        losses = "{:.3f} -> {:.3f}".format(*self.losses)
        if self.kind == "move":
            return f"{self.name} moved {self.before[0]} -> {self.after[0]} ({losses})"
        counts = " and ".join(str(count) for count in self.clients)
        clusters = f"clusters {', '.join(map(str, self.before))}"
        if self.kind == "split":
            what = f"cluster {self.before[0]} split in {len(self.after)}"
        elif self.kind == "merge":
            what = f"{clusters} merged into {self.after[0]}"
        else:
            what = f"{clusters} regrouped into {', '.join(map(str, self.after))}"
        return f"{what} ({counts} clients), held-back loss {losses}"


@dataclass
class Draft:
    """Clusters as a check would have them.

    Attributes
    ----------
    assignments : dict of str to int
        Cluster of each client.
    choices : dict of str to Choice
        What each client is judged by: its cluster as it is drafted, without itself.
    clusters : int
        How many there are, those that nobody is in among them.
    changes : list of Change
    changed : set of int
        Clusters that are no longer as clients have judged them.
    """

    assignments: dict[str, int]
    choices: dict[str, Choice]
    clusters: int
    changes: list[Change] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    models: list[Model] = field(default_factory=list)

    @property
    def regrouped(self) -> bool:
        """Whether clusters have been made anew, not clients moved alone."""
        return any(change.kind != "move" for change in self.changes)

    def members(self, clusters: Collection[int]) -> list[str]:
        """Return who is in one of some clusters."""
        return [name for name, cluster in self.assignments.items() if cluster in clusters]

    def join(self, group: tuple[int, ...], joint: tuple[str, ...]) -> tuple[int, ...]:
        """Make several clusters the first of them; return how many clients each had."""
        names = self.members(group)
        sizes = Counter(self.assignments[name] for name in names)
        self.assignments |= dict.fromkeys(names, group[0])
        self.choices |= {name: joint for name in names if name in self.choices}
        self.changed |= set(group)
        return tuple(sizes[cluster] for cluster in group)

    def part(self, group: Collection[int], parts: Parts) -> tuple[int, ...]:
        """Let parts be in the place of some clusters; return their numbers, the largest first.

        A part has the number of the cluster that most of it comes from, if that is free. Who is in
        no part goes where most of its cluster have gone.
        """
        names, sizes = self.members(group), Counter(parts.values())
        ordered = sorted(sizes, key=lambda part: (-sizes[part], part))
        overlap = Counter((parts[n], self.assignments[n]) for n in names if n in parts)
        numbers: dict[tuple[str, ...], int] = {}
        for part, cluster in sorted(overlap, key=lambda pair: (-overlap[pair], pair)):
            if part not in numbers and cluster not in numbers.values():
                numbers[part] = cluster
        free = self._free_numbers(group, numbers.values())
        for part in ordered:
            if part not in numbers:
                numbers[part] = next(free)
        largest = {
            cluster: max(ordered, key=lambda part: overlap[part, cluster]) for cluster in group
        }
        placed = {n: parts.get(n, largest[self.assignments[n]]) for n in names}
        self.assignments |= {name: numbers[part] for name, part in placed.items()}
        self.choices |= {name: part for name, part in parts.items() if name in self.choices}
        self.changed |= {*group, *numbers.values()}
        return tuple(numbers[part] for part in ordered)

    def _free_numbers(self, group: Collection[int], used: Collection[int]) -> Iterator[int]:
        """Yield numbers of clusters that nobody is in or that are parted, then new ones."""
        elsewhere = set(self.assignments.values()) | self.changed
        taken = (elsewhere - set(group)) | set(used)
        yield from [number for number in range(self.clusters) if number not in taken]
        while True:
            self.clusters += 1
            yield self.clusters - 1
