"""What a person sees of a running experiment: lines, and at a terminal a board below them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from feddag_lab.experiments.forecast import Forecast, duration
from feddag_lab.experiments.trials import Trial


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
        self._running: dict[str, tuple[Trial, float]] = {}
        self._console = console or Console(highlight=False, markup=False, soft_wrap=True)
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self._board, refresh_per_second=2
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, trial: Trial) -> None:
        """Note that a trial has started."""
        self._waiting.pop(trial.slug, None)
        self._running[trial.slug] = (trial, time.monotonic())

    def ended(self, trial: Trial, failure: str | None, seconds: float, score: float | None) -> None:
        """Write the line of a trial that has ended; `score` is its balanced accuracy, a share."""
        self._running.pop(trial.slug, None)
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
        self._console.print(Text(line), style="red" if failure else "")

    def _left(self) -> str:
        now = time.monotonic()
        left = self._forecast.left(
            [trial.algorithm for trial in self._waiting.values()],
            [(trial.algorithm, now - since) for trial, since in self._running.values()],
            self._workers,
        )
        failed = f", {self._failed} failed" if self._failed else ""
        return ("time left unknown" if left is None else f"{duration(left)} left") + failed

    def _board(self) -> Group:
        rows = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for trial, since in self._running.values():
            rows.add_row(Text(str(trial)), Text(duration(now - since)))
        ended = self._done + self._failed
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{ended}/{self._total} trials"),
            ProgressBar(total=max(1, self._total), completed=ended, width=30),
            Text(self._left()),
        )
        return Group(rows, head)
