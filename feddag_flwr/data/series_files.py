"""Series in Parquet files: a row a series, a column of lists a channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.samples import DataError, LabelledSamples, Parts
from feddag_flwr.data.table_files import RawTable, read_table_file
from feddag_flwr.data.tables import TableOptions, labels_of, part_files, rows_of
from feddag_flwr.modalities import Modality


def read_series(path: Path, modality: Modality, options: TableOptions, client: str = "") -> Parts:
    """Read a client's series from a Parquet file, or a folder of ``train`` and ``test`` files.

    Each row is a series, each column of lists a channel, by name; the lists of a row are of one
    length. Other columns than the label are passed over.
    """
    raws = [rows_of(read_table_file(file), options, client) for file in part_files(path)]
    labels, names = labels_of(raws, options)
    samples = [modality.accept(padded_series(raw), f"{raw.path}") for raw in raws]
    if samples[0].shape[2] != samples[-1].shape[2]:
        raise DataError(f"{raws[-1].path}: not as many columns of lists as {raws[0].path}")
    train, *test = (LabelledSamples(*pair) for pair in zip(samples, labels, strict=True))
    return Parts(train, test[0] if test else None, names)


def padded_series(raw: RawTable) -> NDArray[Any]:
    """Return shape (n, steps, channels), NaN behind the end of a series."""
    channels = [raw.columns[name] for name in sorted(raw.columns)]
    channels = [cells for cells in channels if cells.dtype.kind == "O"]
    if not channels:
        raise DataError(f"{raw.path}: no column of lists; expected one a channel (Parquet)")
    lengths = np.array([[len(cell) for cell in cells] for cells in channels])
    odd = np.flatnonzero((lengths != lengths[0]).any(axis=0) | (lengths[0] == 0))
    if odd.size:
        raise DataError(
            f"{raw.path}: {raw.rows[odd[0]]} has {', '.join(map(str, lengths[:, odd[0]]))} steps "
            "in its channels; expected as many in each, one at least: mend it or leave it out"
        )
    padded = np.full((len(raw), lengths.max(), len(channels)), np.nan)
    for channel, cells in enumerate(channels):
        for row, cell in enumerate(cells):
            padded[row, : len(cell), channel] = cell
    return padded
