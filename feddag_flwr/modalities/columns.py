"""Columns of a table: what a client says of its own, and which of them the federation has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from feddag_flwr.modalities.base import ModalityError, SampleSpec

# Different texts of a column, beyond which it is no category; letters of a name or a text.
MAX_LEVELS = 1000
MAX_LETTERS = 200


class Column(NamedTuple):
    """One column.

    Attributes
    ----------
    levels : tuple of str or None
        The texts of a category, sorted; empty where every cell is. None: numbers.
    """

    name: str
    levels: tuple[str, ...] | None = None

    @property
    def numbers(self) -> bool:
        """Whether it holds numbers."""
        return self.levels is None


class Table(NamedTuple):
    """The columns of a table, those of numbers first.

    A row becomes a number for each column of numbers, one for each of these that says whether the
    cell is empty, and for each category one for "empty or unknown" and one for each level.
    """

    numbers: tuple[str, ...]
    categories: tuple[Column, ...]

    @classmethod
    def of(cls, columns: Sequence[Column]) -> Table:
        """Sort the columns by kind; within each they stay in order."""
        return cls(
            tuple(column.name for column in columns if column.numbers),
            tuple(column for column in columns if not column.numbers),
        )

    @property
    def level_counts(self) -> tuple[int, ...]:
        """Numbers that each category becomes."""
        return tuple(1 + len(column.levels or ()) for column in self.categories)

    @property
    def width(self) -> int:
        """Numbers that a row becomes."""
        return 2 * len(self.numbers) + sum(self.level_counts)


def spec_of(columns: Sequence[Column]) -> SampleSpec:
    """Write columns as a spec: the width of a row, and the columns as JSON."""
    text = json.dumps([list(column) for column in columns], ensure_ascii=True)
    return SampleSpec((Table.of(columns).width,), text)


@lru_cache(maxsize=64)
def columns_of(spec: SampleSpec) -> tuple[Column, ...]:
    """Read the columns of a spec; a `ModalityError` where there is anything else."""
    try:
        written = json.loads(spec.details)
    except (ValueError, RecursionError) as error:
        raise ModalityError("sample-details of a table must be JSON") from error
    if not isinstance(written, list) or not written:
        raise ModalityError("sample-details of a table must be a list of columns, one at least")
    columns = tuple(_column(each) for each in written)
    if len({column.name for column in columns}) < len(columns):
        raise ModalityError("sample-details of a table name a column twice")
    if spec.shape != (Table.of(columns).width,):
        raise ModalityError(
            f"sample-shape {spec.shape}: these columns become {Table.of(columns).width} numbers"
        )
    return columns


@lru_cache(maxsize=64)
def table_of(spec: SampleSpec) -> Table:
    """Read the columns of a spec, by kind."""
    return Table.of(columns_of(spec))


def table_in_words(spec: SampleSpec) -> list[tuple[str, str]]:
    """Say what each column holds: name and content."""
    return [
        (column.name, "numbers" if column.levels is None else ", ".join(column.levels) or "nothing")
        for column in columns_of(spec)
    ]


def _column(written: Any) -> Column:  # noqa: ANN401 - JSON
    if not isinstance(written, list) or len(written) != 2 or not _is_text(written[0]):
        raise ModalityError("sample-details of a table: a column must be a name and its levels")
    name, levels = written
    if levels is None:
        return Column(name)
    if not isinstance(levels, list) or len(levels) > MAX_LEVELS or not all(map(_is_text, levels)):
        raise ModalityError(
            f"column {name!r}: levels must be {MAX_LEVELS} texts at most, of {MAX_LETTERS} letters"
        )
    if levels != sorted(set(levels)):
        raise ModalityError(f"column {name!r}: levels must be sorted, each named once")
    return Column(name, tuple(levels))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_LETTERS and value.isprintable()


def agreed_columns(tables: Sequence[Sequence[Column]]) -> tuple[Column, ...]:
    """Return the federation's columns: those that at least half of its tables have, by name.

    A column is one of numbers where more tables say so than hold texts in it. The levels of a
    category are those of all tables; where these are too many, those that most of them have. So
    no client alone adds a column, nor crowds out levels that two have.
    """
    held: dict[str, list[Column]] = {}
    for column in (column for table in tables for column in table):
        held.setdefault(column.name, []).append(column)
    names = [name for name in sorted(held) if 2 * len(held[name]) >= len(tables)]
    return tuple(_agreed(name, held[name]) for name in names)


def _agreed(name: str, columns: Sequence[Column]) -> Column:
    numbers = sum(column.numbers for column in columns)
    if numbers > sum(bool(column.levels) for column in columns):
        return Column(name)
    tally = Counter(level for column in columns for level in column.levels or ())
    ranked = sorted(tally, key=lambda level: (-tally[level], level))
    return Column(name, tuple(sorted(ranked[:MAX_LEVELS])))
