"""Files of tables, cell by cell: CSV, ARFF, Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.cells import number_of
from feddag_flwr.data.samples import DataError, in_one_line

TABLE_SUFFIXES = (".csv", ".tsv", ".arff", ".parquet")
_SEPARATORS = ",;\t"
_ATTRIBUTE = re.compile(r"@attribute\s+(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as its file has it.

    Attributes
    ----------
    path : Path or str
        The file, or what else its messages begin with.
    columns : dict
        By name, in order: texts, float64 with NaN where nothing is, or, of series, arrays (object).
    rows : tuple of str
        What to call each row.
    """

    path: Path | str
    columns: dict[str, NDArray[Any]]
    rows: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: NDArray[np.int64]) -> RawTable:
        """Return some of the rows."""
        columns = {name: cells[chosen] for name, cells in self.columns.items()}
        return RawTable(self.path, columns, tuple(self.rows[row] for row in chosen))


def read_table_file(path: Path) -> RawTable:
    """Read a table; its suffix says the format.

    CSV and TSV begin with a row of names; the separator is the one of ``,``, ``;`` and tabulator
    that this row has most of. Parquet needs the package pyarrow. A `DataError` names path and row.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected one of {', '.join(TABLE_SUFFIXES)}")
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{path}: is none of {', '.join(TABLE_SUFFIXES)}")
    if suffix == ".parquet":
        return _read_parquet(path)
    return _read_arff(path) if suffix == ".arff" else _read_csv(path)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error
    except (OSError, MemoryError) as error:
        raise DataError(f"{path}: cannot be read ({in_one_line(error)})") from error
    if "\0" in text:
        raise DataError(f"{path}: is no text, it holds zero bytes; expected a table as text")
    return text.splitlines(keepends=True)


def _read_csv(path: Path) -> RawTable:
    lines = _lines(path)
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise DataError(f"{path}: is empty; expected a row of names and a row a sample")
    separator = max(_SEPARATORS, key=lines[start].count)
    records = _records(path, lines[start:], start, separator)
    _, names = next(records)
    names = [name.strip() for name in names]
    if len(names) > 1 and all(number_of(name) is not None for name in names):
        raise DataError(f"{path}: its first row is all numbers; expected the names of the columns")
    return _table(path, names, records)


def _read_arff(path: Path) -> RawTable:
    lines = _lines(path)
    data = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if data is None:
        raise DataError(f"{path}: has no line @data; expected rows below it")
    found = [_ATTRIBUTE.match(line.strip()) for line in lines[:data]]
    names = [attribute[1].strip("\"'") for attribute in found if attribute]
    if not names:
        raise DataError(f"{path}: names no @attribute; expected one a column")
    rows = [line if not line.startswith("%") else "\n" for line in lines[data + 1 :]]
    return _table(path, names, _records(path, rows, data + 1, ",", quote="'"))


def _records(
    path: Path, lines: Iterable[str], before: int, separator: str, quote: str = '"'
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line in which a record ends, and its cells; blank ones are skipped."""
    reader = csv.reader(lines, delimiter=separator, quotechar=quote, skipinitialspace=True)
    try:
        for cells in reader:
            if cells and any(cell.strip() for cell in cells):
                yield before + reader.line_num, cells
    except csv.Error as error:
        line = before + reader.line_num
        raise DataError(f"{path}: line {line}: {in_one_line(error)}; mend the line") from error


def _table(path: Path, names: list[str], records: Iterator[tuple[int, list[str]]]) -> RawTable:
    check_names(path, names)
    kept, places = [], []
    for line, cells in records:
        if len(cells) != len(names):
            raise DataError(
                f"{path}: line {line} has {len(cells)} cells, but there are {len(names)} columns; "
                "mend the line"
            )
        kept.append(cells)
        places.append(f"line {line}")
    if not kept:
        raise DataError(f"{path}: has names of columns, but no row; expected a row a sample")
    by_column = zip(names, zip(*kept, strict=True), strict=True)
    return RawTable(path, {n: np.array(cells, np.str_) for n, cells in by_column}, tuple(places))


def check_names(path: Path | str, names: Iterable[str]) -> None:
    """Refuse names of columns that are empty, too long, or there twice."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name or len(name) > 200 or not name.isprintable():
            raise DataError(
                f"{path}: column {number + 1} is called {name[:40]!r}; give it a name of 200 "
                "letters at most"
            )
        if name in seen:
            raise DataError(f"{path}: column {name!r} is there twice; rename one")
        seen.add(name)


def _read_parquet(path: Path) -> RawTable:
    try:
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet needs pyarrow: install the extra, pip install 'feddag-flwr[parquet]'"
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
        columns = {name: _arrow_cells(table.column(name)) for name in table.column_names}
    except Exception as error:  # of many kinds, as bytes can be broken in many places
        raise DataError(f"{path}: not a readable Parquet file ({in_one_line(error)})") from error
    check_names(path, columns)
    if not table.num_rows:
        raise DataError(f"{path}: has no row; expected a row a sample")
    return RawTable(path, columns, tuple(f"row {row}" for row in range(table.num_rows)))


def _arrow_cells(column: Any) -> NDArray[Any]:  # noqa: ANN401 - of a package that may be missing
    """Return a column as floats, texts or arrays."""
    import pyarrow.types as kinds  # type: ignore[import-not-found,import-untyped,unused-ignore]

    cells, kind = column.to_pylist(), column.type
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        lists = np.empty(len(cells), dtype=object)
        for row, cell in enumerate(cells):
            values = [np.nan if value is None else value for value in cell or ()]
            lists[row] = np.array(values, dtype=np.float64)
        return lists
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind):
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    return np.array(["" if cell is None else str(cell) for cell in cells], dtype=np.str_)
