"""How long the rest of a suite will take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from feddag_lab.experiments.layout import TrialRecord


class Forecast:
    """Learns how long trials take, an algorithm each, from those that have finished."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def learn(self, algorithm: str, seconds: float) -> None:
        """Take note of a finished trial."""
        self._seconds[algorithm].append(seconds)

    def expected(self, algorithm: str) -> float | None:
        """Return a trial's seconds: the algorithm's mean, else that of all; None: not known."""
        if algorithm in self._seconds:
            return fmean(self._seconds[algorithm])
        known = [fmean(each) for each in self._seconds.values()]
        return fmean(known) if known else None

    def left(
        self, waiting: Iterable[str], running: Iterable[tuple[str, float]], workers: int
    ) -> float | None:
        """Return the seconds left.

        Parameters
        ----------
        waiting : iterable of str
            Algorithm of each trial that has not started.
        running : iterable of (str, float)
            Algorithm, and seconds so far, of each trial under way.
        workers : int
            Trials under way at once.

        Returns
        -------
        float or None
            Work left, shared evenly among the workers, but no less than the longest trial under
            way; None before any trial has finished.
        """
        parts: dict[str, float | None] = {}
        rest = [max(0.0, (self._of(name, parts) or 0.0) - since) for name, since in running]
        work = sum(self._of(name, parts) or 0.0 for name in waiting) + sum(rest)
        if not self._seconds:
            return None
        return max([work / max(1, workers), *rest])

    def _of(self, algorithm: str, known: dict[str, float | None]) -> float | None:
        if algorithm not in known:
            known[algorithm] = self.expected(algorithm)
        return known[algorithm]


def duration(seconds: float) -> str:
    """Write a duration: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def by_algorithm(records: Iterable[TrialRecord]) -> Forecast:
    """Make a forecast from the records of trials that finished earlier."""
    forecast = Forecast()
    for record in records:
        if record.seconds is not None:
            forecast.learn(record.algorithm, record.seconds)
    return forecast
