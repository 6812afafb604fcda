"""What members say of each other's updates, and who is in quarantine for it.

An update is harmful where most of the members that judge it lose by it, beyond chance. It is left
out, unless such updates are usual in the cluster: where members' data differ much, one member's
update alone suits few of the others, and nobody is to blame. There it is left out only if it stands
out: if it costs most of its judges far more than any other of the round. A client whose updates are
left out more often than those of its cluster's other members, beyond chance, is in quarantine: it
goes on training, its updates count for nothing, and it is back once some of them on end would not
have been left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from scipy.stats import hypergeom

from feddag_flwr.records import ValidationLosses

# Standard errors by which a judge's loss must rise: by chance once in 740 updates.
BEYOND_CHANCE: Final = 3.0
WINDOW: Final = 8  # last verdicts on a client that count: what was before is forgotten
KNOWN: Final = 2  # verdicts by which a member is known, members that tell what is usual
USUAL: Final = 0.75  # share of members with mostly harmful updates where these are usual
FAR: Final = 2.0  # times the harm of the others' updates that makes one stand out even there
CHANCE: Final = 0.01  # of as many of a client's updates left out, were all clients alike
WAY_BACK: Final = 3  # harmless updates on end that end a quarantine


class Judgement(NamedTuple):
    """What one member says of an update: its answer, and which models it was asked about.

    Attributes
    ----------
    answer : ValidationLosses
    before, after : int
        Places of the cluster's model, and of what the update would make of it.
    others : tuple of int
        Places of what other updates of the round would make of it.
    """

    answer: ValidationLosses
    before: int
    after: int
    others: tuple[int, ...] = ()

    @property
    def loses(self) -> bool:
        """Whether the member's loss is higher by the update."""
        return loses(self.answer, self.before, self.after)

    @property
    def finds_it_worst(self) -> bool:
        """Whether its loss rises `FAR` times as much as by any of the others, two at least."""
        if len(self.others) < KNOWN or not self.loses:
            return False
        losses = self.answer.losses
        rise = losses[self.after] - losses[self.before]
        most = max(losses[other] - losses[self.before] for other in self.others)
        return bool(rise > FAR * most)


@dataclass(frozen=True)
class Verdict:
    """What members say of one update.

    Of `judges` so many are `worse` off by it, and `worst` far more than by any other of the round.
    """

    worse: int
    judges: int
    worst: int = 0

    @property
    def harmful(self) -> bool:
        """Whether more than half lose by it."""
        return 2 * self.worse > self.judges

    @property
    def stands_out(self) -> bool:
        """Whether more than half lose far more by it than by any other."""
        return 2 * self.worst > self.judges

    @classmethod
    def of(cls, judgements: Sequence[Judgement]) -> Verdict:
        """Count judges; who has no samples to judge by is none."""
        told = [each for each in judgements if each.answer.samples]
        worse, worst = (
            sum(each.loses for each in told),
            sum(each.finds_it_worst for each in told),
        )
        return cls(worse, len(told), worst)


def loses(answer: ValidationLosses, before: int, after: int) -> bool:
    """Tell whether a client's loss is higher under `after`, by `BEYOND_CHANCE` standard errors.

    Both losses are of the same samples, so their difference varies less than either.
    """
    rise = float(answer.losses[after] - answer.losses[before])
    error = math.sqrt(answer.variance_of_difference(before, after))
    return rise > BEYOND_CHANCE * error


class Reputation:
    """Verdicts on each client, and who is in quarantine.

    Attributes
    ----------
    quarantined : dict of str to int
        Clients in quarantine, and how many updates on end of theirs were harmless.
    """

    def __init__(self) -> None:
        self.quarantined: dict[str, int] = {}
        self._harmful: dict[str, list[bool]] = {}
        self._left_out: dict[str, list[bool]] = {}

    def begin_on_probation(self, name: str) -> None:
        """Let a client begin as one that is in quarantine: nothing is known of it."""
        self.quarantined[name] = 0

    def leaves_out(self, verdict: Verdict, others: Collection[str]) -> bool:
        """Tell whether an update is left out; `others` are its cluster's other members."""
        return verdict.harmful and (verdict.stands_out or not self.is_usual(others))

    def is_usual(self, others: Collection[str]) -> bool:
        """Tell whether harmful updates are usual in a cluster, by a client's `others` there.

        So where they are most updates of three quarters of the members: one member alone, however
        often it is judged, makes nothing usual, nor do two of three.
        """
        windows = [window for name in others if len(window := self._harmful.get(name, [])) >= KNOWN]
        mostly = sum(2 * sum(window) > len(window) for window in windows)
        return len(windows) >= KNOWN and mostly >= USUAL * len(windows)

    def note(self, name: str, verdict: Verdict, others: Collection[str], *, left_out: bool) -> str:
        """Count a verdict; return what changes by it: ``quarantined``, ``back``, or nothing.

        `others` are the other members of the client's cluster; `left_out` is what `leaves_out` has
        said.
        """
        if not verdict.judges:
            return ""
        _add(self._harmful, name, verdict.harmful)
        if name in self.quarantined:
            return self._note_in_quarantine(name, left_out=left_out)
        _add(self._left_out, name, left_out)
        if not left_out or self._chance(name, others) >= CHANCE:
            return ""
        self.begin_on_probation(name)
        return "quarantined"

    def _chance(self, name: str, others: Collection[str]) -> float:
        """Chance of as many updates of a client left out, of all in its cluster (Fisher's test)."""
        own, judged = self._counts([name])
        left_out, known = self._counts(others)
        return float(hypergeom.sf(own - 1, judged + known, own + left_out, judged))

    def _counts(self, names: Collection[str]) -> tuple[int, int]:
        """Count updates of some clients left out among the last ones, and all that were judged."""
        windows = [self._left_out.get(name, []) for name in names]
        return sum(map(sum, windows)), sum(map(len, windows))

    def _note_in_quarantine(self, name: str, *, left_out: bool) -> str:
        self.quarantined[name] = 0 if left_out else self.quarantined[name] + 1
        if self.quarantined[name] < WAY_BACK:
            return ""
        del self.quarantined[name]
        self._left_out.pop(name, None)
        return "back"

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain JSON."""
        return {
            "quarantined": dict(sorted(self.quarantined.items())),
            "harmful": dict(sorted(self._harmful.items())),
            "left-out": dict(sorted(self._left_out.items())),
        }

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.quarantined = dict(kept["quarantined"])
        self._harmful = {name: list(window) for name, window in kept["harmful"].items()}
        self._left_out = {name: list(window) for name, window in kept["left-out"].items()}


def _add(windows: dict[str, list[bool]], name: str, verdict: bool) -> None:
    """Add a verdict to a client's last ones."""
    windows[name] = [*windows.get(name, []), verdict][-WINDOW:]
