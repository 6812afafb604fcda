"""Tables as labelled samples: which column is the label, which hold numbers, which categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.cells import (
    cell_text,
    has_decimal_comma,
    number_in_words,
    number_of,
    number_texts,
    unusable_numbers,
)
from feddag_flwr.data.labels import MAX_LETTERS, classes_of, label_texts
from feddag_flwr.data.samples import DataError, LabelledSamples, Parts
from feddag_flwr.data.settings import DataSettings, class_map, column_list
from feddag_flwr.data.table_files import TABLE_SUFFIXES, RawTable, read_table_file

# Different texts of one column, beyond which it is no category.
MAX_LEVELS = 1000


class TableOptions(NamedTuple):
    """What the settings say of tables."""

    label: str = "label"
    client: str = ""  # column that says whose row it is; empty: the file is one client's
    categorical: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    classes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, data: DataSettings) -> TableOptions:
        """Take them from the settings."""
        return cls(
            data.label_column,
            data.client_column,
            frozenset(column_list(data.categorical_columns)),
            frozenset(column_list(data.drop_columns)),
            tuple(class_map(data.class_map).items()),
        )

    @property
    def no_features(self) -> frozenset[str]:
        """Columns that a model does not see."""
        return self.dropped | {self.label, self.client}


def read_table(path: Path, options: TableOptions, client: str = "") -> Parts:
    """Read one client's table, or with ``client-column`` its rows of a table of many.

    A folder holds ``train`` and, optionally, ``test``, each of a suffix that is known.
    """
    return _read(path, options, client, _state(path))


@lru_cache(maxsize=64)
def _read(path: Path, options: TableOptions, client: str, state: Any) -> Parts:  # noqa: ANN401
    del state  # of the files: a changed one is read anew
    raws = [rows_of(raw, options, client) for raw in _raw_parts(path)]
    parts, names = labelled_parts(raws, options)
    return Parts(parts[0], parts[1] if len(parts) > 1 else None, names)


def labelled_parts(
    raws: Sequence[RawTable], options: TableOptions
) -> tuple[list[LabelledSamples], tuple[str, ...]]:
    """Part the labels of one client's parts from the columns that are features."""
    tables = feature_tables([_features(raw, options) for raw in raws], options.categorical)
    labels, names = labels_of(raws, options)
    return [LabelledSamples(*pair) for pair in zip(tables, labels, strict=True)], names


def client_names(path: Path, options: TableOptions) -> list[str]:
    """Return the clients that the ``client-column`` of a table names, sorted (as numbers)."""
    raw = _one_raw(path, _state(path))
    _need(raw, options.client, "client-column")
    names = {name for name in _texts(raw.columns[options.client]).tolist() if name}
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))


def row_names(path: Path, options: TableOptions, client: str = "") -> tuple[list[str], list[str]]:
    """Return what to call each row of the training and the test part that `read_table` reads."""
    names = [list(rows_of(raw, options, client).rows) for raw in _raw_parts(path)]
    return names[0], names[1] if len(names) > 1 else []


def column_names(path: Path) -> list[str]:
    """Return the columns of the training part that `read_table` reads, with those left out."""
    return list(_raw_parts(path)[0].columns)


def table_files(root: Path) -> list[Path]:
    """Return the tables in a folder, one a client: files, and folders with a ``train`` file."""
    return sorted(
        (
            path
            for path in _listed(root)
            if not path.name.startswith(".")
            and (_part(path, "train") if path.is_dir() else path.suffix.lower() in TABLE_SUFFIXES)
        ),
        key=lambda path: path.stem,
    )


def _listed(path: Path) -> list[Path]:
    """Return the file itself, or what is in a folder, sorted."""
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError as error:
        raise DataError(f"{path}: cannot be listed ({error.strerror})") from error


def _part(folder: Path, part: str) -> Path | None:
    found = (folder / f"{part}{suffix}" for suffix in TABLE_SUFFIXES)
    return next((path for path in found if path.is_file()), None)


def part_files(path: Path) -> list[Path]:
    """Return the file itself, or of a folder its train and, where there is one, its test file."""
    if not path.is_dir():
        return [path]
    train, test = _part(path, "train"), _part(path, "test")
    if train is None:
        raise DataError(
            f"{path}: no file train with one of the suffixes {', '.join(TABLE_SUFFIXES)}"
        )
    return [train] if test is None else [train, test]


def _raw_parts(path: Path) -> list[RawTable]:
    return [_one_raw(file, _state(file)) for file in part_files(path)]


def _state(path: Path) -> Any:  # noqa: ANN401
    """Time of change and size of a file, or of those in a folder; empty where there is none."""
    stats = [(str(file), file.stat()) for file in _listed(path) if file.is_file()]
    return tuple((name, status.st_mtime_ns, status.st_size) for name, status in stats)


@lru_cache(maxsize=4)
def _one_raw(path: Path, state: Any) -> RawTable:  # noqa: ANN401
    del state
    return read_table_file(path)


def rows_of(raw: RawTable, options: TableOptions, client: str) -> RawTable:
    """Return a client's rows of a table that holds those of many, else the table."""
    if not options.client:
        return raw
    _need(raw, options.client, "client-column")
    rows = np.flatnonzero(_texts(raw.columns[options.client]) == client)
    if not rows.size:
        raise DataError(
            f"{raw.path}: no row of client {client!r} in column {options.client!r} (client-column)"
        )
    return raw.select(rows)


def _need(raw: RawTable, name: str, setting: str) -> None:
    if name not in raw.columns:
        names = list(raw.columns)
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise DataError(
            f"{raw.path}: no column {name!r} (setting {setting}); it has "
            f"{', '.join(map(repr, names[:20]))}{more}"
        )


def _features(raw: RawTable, options: TableOptions) -> RawTable:
    kept = {name: c for name, c in raw.columns.items() if name not in options.no_features}
    if not kept:
        raise DataError(f"{raw.path}: no column is left beside the label; expected one at least")
    return RawTable(raw.path, kept, raw.rows)


def labels_of(
    raws: Sequence[RawTable], options: TableOptions
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Give the classes of one or two parts numbers, the same in both."""
    texts, places = [], []
    for raw in raws:
        _need(raw, options.label, "label-column")
        cells = raw.columns[options.label]
        texts.append(label_texts(cells, f"{raw.path}: column {options.label!r}"))
        places += [f"{row} of {Path(raw.path).name}" for row in raw.rows]
    labels, names = classes_of(
        np.concatenate(texts),
        f"{raws[0].path}: column {options.label!r}",
        renamed=dict(options.classes),
        place=places.__getitem__,
    )
    return np.split(labels, np.cumsum([len(part) for part in texts])[:-1]), names


def feature_tables(
    raws: Sequence[RawTable],
    categorical: frozenset[str],
    *,
    kinds: Mapping[str, bool] | None = None,
) -> list[NDArray[Any]]:
    """Make structured arrays of one type of the parts of one client.

    A column of floats or texts each: texts where it is one of `categorical`, or where no cell is a
    number. A `DataError` names a cell that is neither number nor empty beside such as are numbers.
    `kinds` says of some columns whether they must hold numbers.
    """
    names = list(raws[0].columns)
    for raw in raws[1:]:
        if set(raw.columns) != set(names):
            odd = sorted(set(raw.columns) ^ set(names))
            raise DataError(
                f"{raw.path}: column {odd[0]!r} is not in both it and {raws[0].path}; "
                "expected the same columns"
            )
    whole = {
        name: _cells(raws, name, name in categorical, (kinds or {}).get(name)) for name in names
    }
    table = np.empty(sum(map(len, raws)), dtype=[(name, c.dtype) for name, c in whole.items()])
    for name, cells in whole.items():
        table[name] = cells
    return np.split(table, np.cumsum([len(raw) for raw in raws])[:-1])


def _cells(
    raws: Sequence[RawTable], name: str, categorical: bool, numbers: bool | None
) -> NDArray[Any]:
    cells = [raw.columns[name] for raw in raws]
    rows = [(raw, row) for raw in raws for row in range(len(raw))]
    if any(part.dtype.kind == "O" for part in cells):
        raise DataError(f"{raws[0].path}: column {name!r} holds lists; they are for series")
    if categorical or numbers is False:
        return _levels(np.concatenate([_texts(part) for part in cells]), name, raws)
    if all(part.dtype.kind == "f" for part in cells):
        return _finite(np.concatenate(cells), name, rows)
    texts = np.concatenate([_texts(part) for part in cells])
    read = [number_of(text) for text in texts.tolist()]
    broken = [row for row, number in enumerate(read) if number is None]
    filled = texts != ""
    if not filled.any():
        return np.zeros(len(texts), dtype="U1")  # which kind it is, other clients say
    if not broken:
        return _finite(np.array(read, dtype=np.float64), name, rows)
    raw, row = rows[broken[0]]
    if all(has_decimal_comma(texts[place]) for place in broken):
        raise _odd_text(
            f"{raw.path}: {raw.rows[row]}, column {name!r}",
            str(texts[broken[0]]),
            "is a number with a comma; write a decimal point, or name the column in "
            "categorical-columns",
        )
    if numbers is None and len(broken) == int(filled.sum()):
        return _levels(texts, name, raws)
    raise _odd_text(
        f"{raw.path}: {raw.rows[row]}, column {name!r}",
        str(texts[broken[0]]),
        "is no number, other cells are; mend it, leave it empty, or name the column in "
        "categorical-columns or drop-columns",
    )


def _odd_text(where: str, text: str, what: str) -> DataError:
    """Make the error of one text of the data, which stays with its owner."""
    return DataError(f"{where}: {text!r} {what}", told=f"{where}: a text {what}")


def _finite(
    numbers: NDArray[np.float64], name: str, rows: Sequence[tuple[RawTable, int]]
) -> NDArray[np.float64]:
    if (wrong := np.flatnonzero(unusable_numbers(numbers))).size:
        raw, row = rows[wrong[0]]
        raise DataError(
            f"{raw.path}: {raw.rows[row]}, column {name!r}: {number_in_words(numbers[wrong[0]])}; "
            "write a number or leave it empty"
        )
    return numbers


def _texts(cells: NDArray[Any]) -> NDArray[np.str_]:
    if cells.dtype.kind == "f":
        return number_texts(cells)
    return np.array([cell_text(str(cell)) for cell in cells], dtype=np.str_)


def _levels(texts: NDArray[np.str_], name: str, raws: Sequence[RawTable]) -> NDArray[np.str_]:
    levels = sorted(set(texts.tolist()) - {""})
    if len(levels) > MAX_LEVELS:
        found = f"{raws[0].path}: column {name!r} has {len(levels):,} different texts"
        wanted = f"expected a category, {MAX_LEVELS:,} at most: name it in drop-columns"
        raise DataError(f"{found}, such as {levels[0][:40]!r}; {wanted}", told=f"{found}; {wanted}")
    for level in levels:
        if len(level) > MAX_LETTERS or not level.isprintable():
            raise _odd_text(
                f"{raws[0].path}: column {name!r}",
                level[:40],
                "is no name of a category; shorten it, or name the column in drop-columns",
            )
    return texts
