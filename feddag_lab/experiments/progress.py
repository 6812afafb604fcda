"""What a person sees of a running experiment: lines, and at a terminal a board below them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from feddag_lab.experiments.layout import TrialRecord
from feddag_lab.experiments.trials import Trial


class Forecast:
    """Learns how long trials take, an algorithm each, from those that have finished."""

    def __init__(self, records: Iterable[TrialRecord] = ()) -> None:
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)
        for record in records:
            if record.seconds is not None:
                self.learn(record.algorithm, record.seconds)

    def learn(self, algorithm: str, seconds: float) -> None:
        """Take note of a finished trial."""
        self._seconds[algorithm].append(seconds)

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
            way; None before any trial has finished. A trial takes its algorithm's mean, or where
            none of that has finished the mean of all algorithms' means.
        """
        means = {name: fmean(each) for name, each in self._seconds.items()}
        if not means:
            return None
        usual = fmean(means.values())
        rest = [max(0.0, means.get(name, usual) - since) for name, since in running]
        work = sum(means.get(name, usual) for name in waiting) + sum(rest)
        return max([work / max(1, workers), *rest])


class Board:
    """Shows which trials run, which have ended and how, and how long the rest will take.

    Parameters
    ----------
    trials : sequence of Trial
        Those to be run now.
    done : int
        Trials of the suite that finished earlier.
    workers : int
        Trials under way at once, at most.
    forecast : Forecast
        Knows how long earlier trials took; learns from these.
    console : Console, optional
        Where to show it; by default the standard output.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        *,
        done: int,
        workers: int,
        forecast: Forecast,
        console: Console | None = None,
    ) -> None:
        self._total = len(trials) + done
        self._done = done
        self._failed = 0
        self._workers = workers
        self._forecast = forecast
        self._waiting = {trial.slug: trial for trial in trials}
        self._running: dict[str, tuple[Trial, float, TaskID]] = {}
        console = console or Console(highlight=False, markup=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(30), TimeElapsedColumn(),
            console=console, refresh_per_second=2, disable=not console.is_terminal,
        )  # fmt: skip
        self._whole = self._progress.add_task("", total=max(1, self._total))
        self.tick()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, trial: Trial) -> None:
        """Note that a trial has started."""
        self._waiting.pop(trial.slug, None)
        task = self._progress.add_task(str(trial), total=None)
        self._running[trial.slug] = (trial, time.monotonic(), task)

    def ended(self, trial: Trial, failure: str | None, seconds: float, score: float | None) -> None:
        """Write the line of a trial that has ended; `score` is its balanced accuracy, a share."""
        *_, task = self._running.pop(trial.slug)
        self._progress.remove_task(task)
        if failure is None:
            self._done += 1
            self._forecast.learn(trial.algorithm, seconds)
            how = "   n/a  " if score is None else f"{100 * score:6.2f} %"
        else:
            self._failed += 1
            how = "FAILED  "
        count = f"{self._done + self._failed:{len(str(self._total))}d}/{self._total}"
        reason = f" | {failure}" if failure else ""
        line = f"{count} | {how} | {trial} | {duration(seconds)} | {self._left()}{reason}"
        self._progress.console.print(Text(line), style="red" if failure else "")
        self.tick()

    def tick(self) -> None:
        """Bring the board up to date."""
        ended = self._done + self._failed
        text = f"{ended}/{self._total} trials, {self._left()}"
        self._progress.update(self._whole, completed=ended, description=text)

    def _left(self) -> str:
        now = time.monotonic()
        left = self._forecast.left(
            [trial.algorithm for trial in self._waiting.values()],
            [(trial.algorithm, now - since) for trial, since, _ in self._running.values()],
            self._workers,
        )
        failed = f", {self._failed} failed" if self._failed else ""
        return ("time left unknown" if left is None else f"{duration(left)} left") + failed


def duration(seconds: float) -> str:
    """Write a duration: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
