"""Judges whether what processes take grows from round to round."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

from feddag_lab.process_watch.sampler import Sample

TOTAL = "total"
CONFIDENCE = 0.95
# Growth over the whole window that still counts as flat, as a share of the level.
FLAT_SHARE = 0.02
# Roles whose processes come and go with each message: their peak is told, not their sum judged.
FLEETING = frozenset({"client apps"})


@dataclass(frozen=True)
class Taken:
    """What a role takes in one round: medians over the round's samples of sums over processes.

    Parameters
    ----------
    rss_mb, private_mb : float
        Memory, as in `Sample`.
    handles, threads, processes : float
        Counts.
    """

    rss_mb: float
    private_mb: float
    handles: float
    threads: float
    processes: float


QUANTITIES: Mapping[str, Callable[[Taken], float]] = {
    "memory, MB": lambda taken: taken.rss_mb,
    "private memory, MB": lambda taken: taken.private_mb,
    "handles": lambda taken: taken.handles,
    "threads": lambda taken: taken.threads,
    "processes": lambda taken: taken.processes,
}
# A unit more or less of these is no growth.
SLACK = {"memory, MB": 1.0, "private memory, MB": 1.0}
ONE = 1.0

# By role, by round.
ByRound = Mapping[str, Mapping[int, Taken]]


@dataclass(frozen=True)
class Trend:
    """How one quantity of one role went over the rounds of the window.

    Parameters
    ----------
    role, quantity : str
        What it is of.
    first, last : int
        Rounds at the ends of the window for which there are samples.
    level : float
        Median over the window.
    slope, low, high : float
        A round: Theil-Sen estimate with its 95 % interval.
    """

    role: str
    quantity: str
    first: int
    last: int
    level: float
    slope: float
    low: float
    high: float

    @property
    def growth(self) -> float:
        """Growth over the window, as the slope has it."""
        return self.slope * (self.last - self.first)

    @property
    def share(self) -> float:
        """Slope as a share of the level, a round."""
        return self.slope / self.level if self.level else 0.0

    @property
    def flat(self) -> bool:
        """Whether there is no growth: none worth speaking of, or none that stands out of noise."""
        slack = max(FLAT_SHARE * self.level, SLACK.get(self.quantity, ONE))
        return self.growth <= slack or self.low <= 0.0


def by_round(samples: Iterable[Sample], fleeting: Iterable[str] = FLEETING) -> ByRound:
    """Sum samples over the processes of a role, and take medians over the moments of a round.

    Parameters
    ----------
    samples : iterable of Sample
        In any order.
    fleeting : iterable of str
        Roles that the total leaves out.

    Returns
    -------
    mapping of str to mapping of int to Taken
        By role, ``"total"`` among them, by round; rounds without samples are missing.
    """
    left_out = set(fleeting)
    moments: defaultdict[tuple[int, float], defaultdict[str, list[Sample]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for sample in samples:
        here = moments[sample.round, sample.seconds]
        here[sample.role].append(sample)
        if sample.role not in left_out:
            here[TOTAL].append(sample)
    roles = {role for here in moments.values() for role in here}
    sums: defaultdict[str, defaultdict[int, list[tuple[float, ...]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for (number, _), here in moments.items():
        for role in roles:  # a role without processes at a moment takes nothing then
            sums[role][number].append(_sum(here.get(role, [])))
    return {
        role: {
            number: Taken(*np.median(rows, axis=0).tolist())
            for number, rows in sorted(rounds.items())
        }
        for role, rounds in sums.items()
    }


def _sum(samples: Sequence[Sample]) -> tuple[float, ...]:
    return (
        sum(each.rss_mb for each in samples),
        sum(each.private_mb for each in samples),
        float(sum(each.handles for each in samples)),
        float(sum(each.threads for each in samples)),
        float(len(samples)),
    )


def judge(rounds: ByRound, first: int, last: int) -> list[Trend]:
    """Estimate the trend of each role and quantity over a window of rounds.

    Parameters
    ----------
    rounds : mapping
        As `by_round` gives it.
    first, last : int
        The window, both ends included.

    Returns
    -------
    list of Trend
        By role, the total last; fleeting roles are left out.

    Raises
    ------
    ValueError
        Fewer than three rounds of the window have samples.
    """
    trends = []
    for role in sorted(rounds.keys() - FLEETING, key=lambda name: (name == TOTAL, name)):
        window = {n: taken for n, taken in rounds[role].items() if first <= n <= last}
        if len(window) < 3:
            raise ValueError(f"{len(window)} rounds of {first} to {last} have samples: too few")
        for quantity, of in QUANTITIES.items():
            values = [of(taken) for taken in window.values()]
            numbers = list(window)
            found = theilslopes(values, numbers, CONFIDENCE)
            trends.append(
                Trend(
                    role, quantity, numbers[0], numbers[-1], float(np.median(values)),
                    float(found.slope), float(found.low_slope), float(found.high_slope),
                )
            )  # fmt: skip
    return trends


def peak_processes(samples: Iterable[Sample], role: str) -> int:
    """Return the most processes of a role at one moment."""
    counts: defaultdict[float, int] = defaultdict(int)
    for sample in samples:
        counts[sample.seconds] += sample.role == role
    return max(counts.values(), default=0)
