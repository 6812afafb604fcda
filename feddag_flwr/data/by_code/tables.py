"""Tables that a user's own loader returns: columns by name, rows, or an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.by_code.loading import is_pair
from feddag_flwr.data.samples import DataError, in_one_line
from feddag_flwr.data.table_files import RawTable, check_names

EXPECTED = (
    "expected columns by name (a data frame, or a mapping), rows that are mappings, or a pair of "
    "an array (n, columns) and labels"
)


def raw_table(part: Any, where: str, label: str) -> RawTable:  # noqa: ANN401 - foreign code's
    """Return a part of a user's own data as cells of columns.

    Parameters
    ----------
    part : object
        Columns by name: a data frame of pandas or Polars, a dataset of Hugging Face, a mapping. Or
        rows: mappings, or pairs of a mapping or numbers and a label. Or a pair of such columns or
        an array (n, columns) and of labels.
    where : str
        What errors begin with.
    label : str
        Column of the labels; where they come apart, they become it.

    Raises
    ------
    DataError
        It is something else, or raises.
    """
    try:
        columns = _columns(part, label)
    except DataError as error:
        raise error.of(where) from error
    except (Exception, SystemExit) as error:  # whatever foreign code raises
        raise DataError(f"{where} raised {type(error).__name__}: {in_one_line(error)}") from error
    check_names(where, columns)
    lengths = {name: len(cells) for name, cells in columns.items()}
    count = lengths.get(label, max(lengths.values(), default=0))
    odd = [name for name, length in lengths.items() if length != count]
    if odd:
        raise DataError(
            f"{where}: column {odd[0]!r} has {lengths[odd[0]]} cells, others have {count}"
        )
    if not count:
        raise DataError(f"{where}: has no row; expected a row a sample")
    return RawTable(where, columns, tuple(f"row {row}" for row in range(count)))


def _columns(part: Any, label: str) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    if is_pair(part):
        features, labels = part
        named = _by_name(features)
        columns = _numbered(features) if named is None else named
        return columns | {label: _cells(labels)}
    if (named := _by_name(part)) is not None:
        return named
    return _of_rows([part[row] for row in range(len(part))], label)


def _by_name(part: Any) -> dict[str, NDArray[Any]] | None:  # noqa: ANN401
    """Return the columns of what has them by name; None where it has not."""
    if isinstance(part, Mapping):
        names: Iterable[Any] = part
    else:
        names = next(
            (getattr(part, key) for key in ("column_names", "columns") if hasattr(part, key)), ()
        )
        if not len(list(names)):
            return None
    return {str(name): _cells(part[name]) for name in names}


def _numbered(features: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    rows = np.asarray(features)
    if rows.ndim != 2:
        raise DataError(f"features are of shape {rows.shape}; {EXPECTED}")
    return {str(column): _cells(rows[:, column].tolist()) for column in range(rows.shape[1])}


def _of_rows(items: Sequence[Any], label: str) -> dict[str, NDArray[Any]]:
    """Return the columns of rows; a cell that a mapping lacks is a hole."""
    rows = [_row(item, label, number) for number, item in enumerate(items)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _cells([row.get(name) for row in rows]) for name in names}


def _row(item: Any, label: str, number: int) -> dict[str, Any]:  # noqa: ANN401
    if isinstance(item, Mapping):
        return {str(name): cell for name, cell in item.items()}
    if isinstance(item, tuple | list) and len(item) == 2:
        row, of_row = item
        if isinstance(row, Mapping):
            cells = {str(name): cell for name, cell in row.items()}
        elif np.ndim(row) == 1:
            cells = {str(column): cell for column, cell in enumerate(np.asarray(row).tolist())}
        else:
            raise DataError(f"row {number} is a {type(row).__name__}; {EXPECTED}")
        return cells | {label: of_row}
    raise DataError(f"row {number} is a {type(item).__name__}; {EXPECTED}")


def _cells(values: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return cells as floats, NaN where nothing is, or as texts, where one of them is a text."""
    cells = [_plain(value) for value in values]
    if all(isinstance(cell, bool | int | float) or cell is None for cell in cells):
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    return np.array(["" if cell is None else str(cell) for cell in cells], dtype=np.str_)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return a cell of NumPy or PyTorch as one of Python; None for what is missing."""
    plain = value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value
    if plain is None or type(plain).__name__ in {"NAType", "NaTType"} or plain != plain:
        return None
    return plain
