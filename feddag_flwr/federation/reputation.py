"""What members say of each other's updates, and who is in quarantine for it.

An update is harmful where most of the members that judge it lose by it, beyond chance. It is left
out, unless most updates of the cluster are so: where members' data differ much, one member's update
alone suits few of the others, and nobody is to blame. A client whose updates are harmful more often
than those of its cluster's other members, beyond chance, is in quarantine: it goes on training, its
updates count for nothing, and it is back once some of them on end are harmless.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scipy.stats import hypergeom

from feddag_flwr.records import ValidationLosses

# Standard errors by which a judge's loss must rise: by chance once in 740 updates.
BEYOND_CHANCE: Final = 3.0
WINDOW: Final = 8  # last verdicts on a client that count: what was before is forgotten
KNOWN: Final = 2  # verdicts by which a member is known, and members that tell what is usual
CHANCE: Final = 0.01  # of as many harmful updates among a client's, were all clients alike
WAY_BACK: Final = 3  # harmless updates on end that end a quarantine


@dataclass(frozen=True)
class Verdict:
    """What members say of one update: `worse` of `judges` lose by it."""

    worse: int
    judges: int

    @property
    def harmful(self) -> bool:
        """Whether more than half lose by it."""
        return 2 * self.worse > self.judges

    @classmethod
    def of(cls, answers: Sequence[tuple[ValidationLosses, int, int]]) -> Verdict:
        """Count judges that lose by an update.

        Of each its answer, and the places in it of the models before and after the update. Who
        has no samples to judge by is none.
        """
        told = [each for each in answers if each[0].samples]
        return cls(sum(loses(*each) for each in told), len(told))


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

    def begin_on_probation(self, name: str) -> None:
        """Let a client begin as one that is in quarantine: nothing is known of it."""
        self.quarantined[name] = 0

    def is_usual(self, others: Collection[str]) -> bool:
        """Tell whether harmful updates are usual in a cluster, by a client's `others` there.

        So where they are most updates of most members: one member alone, however often it is
        judged, makes nothing usual.
        """
        windows = [window for name in others if len(window := self._harmful.get(name, [])) >= KNOWN]
        mostly = sum(2 * sum(window) > len(window) for window in windows)
        return len(windows) >= KNOWN and 2 * mostly > len(windows)

    def note(self, name: str, verdict: Verdict, others: Collection[str]) -> str:
        """Count a verdict; return what changes by it: ``quarantined``, ``back``, or nothing.

        `others` are the other members of the client's cluster.
        """
        if not verdict.judges:
            return ""
        if name in self.quarantined:
            return self._note_in_quarantine(name, verdict)
        window = [*self._harmful.get(name, []), verdict.harmful][-WINDOW:]
        self._harmful[name] = window
        if not verdict.harmful or self._chance(name, others) >= CHANCE:
            return ""
        self.begin_on_probation(name)
        return "quarantined"

    def _counts(self, names: Collection[str]) -> tuple[int, int]:
        """Count harmful updates of some clients among the last ones, and all that were judged."""
        windows = [self._harmful.get(name, []) for name in names]
        return sum(map(sum, windows)), sum(map(len, windows))

    def _chance(self, name: str, others: Collection[str]) -> float:
        """Chance of as many harmful updates of a client, of all in its cluster (Fisher's test)."""
        own, judged = self._counts([name])
        harmful, known = self._counts(others)
        return float(hypergeom.sf(own - 1, judged + known, own + harmful, judged))

    def _note_in_quarantine(self, name: str, verdict: Verdict) -> str:
        self.quarantined[name] = 0 if verdict.harmful else self.quarantined[name] + 1
        if self.quarantined[name] < WAY_BACK:
            return ""
        del self.quarantined[name]
        self._harmful.pop(name, None)
        return "back"

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain JSON."""
        return {
            "quarantined": dict(sorted(self.quarantined.items())),
            "harmful": dict(sorted(self._harmful.items())),
        }

    def load_state_dict(self, kept: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.quarantined = dict(kept["quarantined"])
        self._harmful = {name: list(window) for name, window in kept["harmful"].items()}
