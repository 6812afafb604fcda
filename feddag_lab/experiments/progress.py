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

from feddag_lab.experiments.cells import Cell
from feddag_lab.experiments.forecast import Forecast, duration


class Board:
    """Shows which cells run, which have ended and how, and how long the rest will take.

    Parameters
    ----------
    cells : sequence of Cell
        Those to be run now.
    done : int
        Cells of the suite that finished earlier.
    workers : int
        Cells under way at once, at most.
    forecast : Forecast
        Knows how long earlier cells took; learns from these.
    console : Console, optional
        Where to show it; by default the standard output.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        done: int,
        workers: int,
        forecast: Forecast,
        console: Console | None = None,
    ) -> None:
        self._total = len(cells) + done
        self._done = done
        self._failed = 0
        self._workers = workers
        self._forecast = forecast
        self._waiting = {cell.slug: cell for cell in cells}
        self._running: dict[str, tuple[Cell, float]] = {}
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

    def started(self, cell: Cell) -> None:
        """Note that a cell has started."""
        self._waiting.pop(cell.slug, None)
        self._running[cell.slug] = (cell, time.monotonic())

    def ended(self, cell: Cell, failure: str | None, seconds: float, score: float | None) -> None:
        """Write the line of a cell that has ended; `score` is its balanced accuracy, a share."""
        self._running.pop(cell.slug, None)
        if failure is None:
            self._done += 1
            self._forecast.learn(cell.algorithm, seconds)
            how = "   n/a  " if score is None else f"{100 * score:6.2f} %"
        else:
            self._failed += 1
            how = "FAILED  "
        count = f"{self._done + self._failed:{len(str(self._total))}d}/{self._total}"
        reason = f" | {failure}" if failure else ""
        line = f"{count} | {how} | {cell} | {duration(seconds)} | {self._left()}{reason}"
        self._console.print(Text(line), style="red" if failure else "")

    def _left(self) -> str:
        now = time.monotonic()
        left = self._forecast.left(
            [cell.algorithm for cell in self._waiting.values()],
            [(cell.algorithm, now - since) for cell, since in self._running.values()],
            self._workers,
        )
        failed = f", {self._failed} failed" if self._failed else ""
        return ("time left unknown" if left is None else f"{duration(left)} left") + failed

    def _board(self) -> Group:
        rows = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for cell, since in self._running.values():
            rows.add_row(Text(str(cell)), Text(duration(now - since)))
        ended = self._done + self._failed
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{ended}/{self._total} cells"),
            ProgressBar(total=max(1, self._total), completed=ended, width=30),
            Text(self._left()),
        )
        return Group(rows, head)
