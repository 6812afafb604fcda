"""Judges whether what processes take grows from round to round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from scipy.stats import theilslopes

from feddag_lab.process_watch.sampler import Sample

TOTAL = "total"
CONFIDENCE = 0.95
# Growth over the whole window that still counts as flat, as a share of the level.
FLAT_SHARE = 0.02
# A unit more or less, one MB or one process, is no growth.
SLACK = 1.0
# Roles whose processes come and go with each message: their peak is told, not their sum judged.
FLEETING = frozenset({"client apps"})
# What a role takes, by its column.
QUANTITIES = {
    "rss_mb": "memory, MB",
    "private_mb": "private memory, MB",
    "handles": "handles",
    "threads": "threads",
    "processes": "processes",
}


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
        return self.growth <= max(FLAT_SHARE * self.level, SLACK) or self.low <= 0.0


def by_round(samples: Iterable[Sample]) -> pd.DataFrame:
    """Sum samples over the processes of a role, and take medians over the moments of a round.

    Parameters
    ----------
    samples : iterable of Sample
        In any order.

    Returns
    -------
    DataFrame
        The columns of `QUANTITIES` by role, ``"total"`` (without `FLEETING`) the last, and round;
        rounds without samples are missing.
    """
    frame = pd.DataFrame(samples, columns=Sample._fields).assign(processes=1)
    total = frame[~frame["role"].isin(FLEETING)].assign(role=TOTAL)
    moment = ["round", "seconds"]
    sums = pd.concat([frame, total]).groupby(["role", *moment])[list(QUANTITIES)].sum()
    roles = [*sorted(frame["role"].unique()), TOTAL]
    # A role without processes at a moment takes nothing then.
    moments = frame[moment].drop_duplicates()
    every = pd.DataFrame({"role": roles}).merge(moments, how="cross")
    sums = sums.reindex(pd.MultiIndex.from_frame(every), fill_value=0.0)
    return sums.groupby(["role", "round"]).median().reindex(roles, level="role")


def judge(rounds: pd.DataFrame, first: int, last: int) -> list[Trend]:
    """Estimate the trend of each role and quantity over a window of rounds.

    Parameters
    ----------
    rounds : DataFrame
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
    for role in map(str, rounds.index.unique("role")):
        if role in FLEETING:
            continue
        window = rounds.xs(role).sort_index().loc[first:last]
        if len(window) < 3:
            raise ValueError(f"{len(window)} rounds of {first} to {last} have samples: too few")
        ends = int(window.index[0]), int(window.index[-1])
        for column, quantity in QUANTITIES.items():
            found = theilslopes(window[column], window.index, CONFIDENCE)
            slopes = map(float, (found.slope, found.low_slope, found.high_slope))
            level = float(window[column].median())
            trends.append(Trend(role, quantity, *ends, level, *slopes))
    return trends


def peak_processes(samples: Iterable[Sample], role: str) -> int:
    """Return the most processes of a role at one moment."""
    frame = pd.DataFrame(samples, columns=Sample._fields)
    counts = frame.loc[frame["role"] == role, "seconds"].value_counts()
    return 0 if counts.empty else int(counts.max())
