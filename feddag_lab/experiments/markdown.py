"""Small pieces of Markdown: tables, and values as a reader wants them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from feddag_lab.experiments.statistics import Interval, mean_and_deviation

ABSENT = "n/a"
LONGEST = 300


def plain(text: str) -> str:
    """Escape what Markdown would read as markup, on one line of bounded length."""
    line = " ".join(text.split())
    if len(line) > LONGEST:
        line = line[: LONGEST - 3] + "..."
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", line)


def code(text: str) -> str:
    """Set as code; escaped text instead where a code span in a table cannot hold it."""
    return plain(text) if re.search(r"[|`\\\n]", text) else f"`{text}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Lay out a table whose first `left` columns are text and the others numbers."""
    rule = ["---" if index < left else "---:" for index in range(len(header))]
    return [_row(header), _row(rule), *(_row(row) for row in rows), ""]


def mean_pm(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds; the mean alone for one."""
    if not values:
        return ABSENT
    mean, deviation = mean_and_deviation(values)
    if deviation is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def mean_of(values: Iterable[float | None], digits: int) -> str:
    """Mean of the values that are known."""
    known = [float(value) for value in values if value is not None and value == value]
    return f"{mean_and_deviation(known)[0]:,.{digits}f}" if known else ABSENT


def interval(found: Interval | None) -> str:
    """Both ends of an interval of differences, with their signs."""
    return ABSENT if found is None else f"[{found.low:+.2f}, {found.high:+.2f}]"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min {rest:02d} s" if hours else f"{minutes} min {rest:02d} s"


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"
