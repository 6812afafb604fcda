"""A table that a person sorts and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from feddag_flwr.report.shown import NONE


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number that it is sorted by, where it is one."""

    text: str
    value: float | None = None
    marked: bool = False

    @property
    def sorted_by(self) -> str:
        """The number, where the text does not say it already."""
        if self.value is None or self.text == f"{self.value:.8g}":
            return ""
        return f"{self.value:.8g}"


@dataclass(frozen=True)
class ReportTable:
    """A table: `numeric` says of each column whether it is sorted by numbers."""

    key: str
    caption: str
    columns: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[Cell]]
    search: str = ""  # label of the field to search it; empty: none
    notes: Sequence[str] = field(default=())


def count_cell(count: int | None) -> Cell:
    """Return a cell with a whole number."""
    return Cell(NONE) if count is None else Cell(f"{count:,}", count)
