"""Rows of tables: columns of numbers and of categories, with holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from feddag_flwr.data.cells import number_in_words, number_texts, unusable_numbers
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities.base import Modality, ModalityError, Rows, SampleSpec
from feddag_flwr.modalities.columns import (
    Column,
    agreed_columns,
    columns_of,
    spec_of,
    table_of,
)
from feddag_flwr.modalities.numbers import (
    PLAIN,
    check_deviation_rows,
    check_length,
    deviation_rows,
    scaled,
)
from feddag_flwr.models.tabular import TabularEncoder
from feddag_flwr.training.device import Samples


class Tabular(Modality):
    """Rows of a table, as a structured array: a field of floats or of texts for each column.

    Holes are NaN, or the empty text. The federation's columns are those that at least half of the
    clients have, matched by name; a category's levels are those of all clients. Brought to them, a
    row is the float64 vector that `Table` describes, NaN in the holes of columns of numbers. There
    the federation's mean is filled in (0 once scaled): a median cannot be had from moments, and a
    client's median may be one person's number.

    Moments are, for each column of numbers, the share of cells that are filled, and the mean of the
    numbers and of their squares over all cells, 0 for holes. A scale has mean and deviation of
    each number of a row; those of holes and levels stay 0 and 1.
    """

    array = "features"
    noun = "row"

    def accept(self, samples: NDArray[Any], where: str) -> NDArray[Any]:
        """Take a structured array as it is, and name the columns of numbers (n, d) from "0"."""
        if samples.dtype.names is not None and samples.ndim == 1:
            return samples
        if samples.ndim != 2 or samples.dtype.kind not in "fiub" or not samples.shape[1]:
            raise DataError(
                f"{where} is {samples.dtype} of shape {samples.shape}; expected numbers of shape "
                "(n, columns)"
            )
        numbers = samples.astype(np.float64)
        if (wrong := np.argwhere(unusable_numbers(numbers))).size:
            row, column = wrong[0]
            raise DataError(
                f"{where}: row {row}, column {column} (counted from 0) "
                f"{number_in_words(numbers[row, column])}; leave it out or write NaN where a "
                "number is missing"
            )
        fields = [(str(column), np.float64) for column in range(samples.shape[1])]
        table = np.empty(len(numbers), dtype=fields)
        for column, (name, _) in enumerate(fields):
            table[name] = numbers[:, column]
        return table

    def spec(self, samples: NDArray[Any]) -> SampleSpec:
        """Return names of the columns, and levels of the categories."""
        if samples.dtype.names is None:
            return super().spec(samples)
        return spec_of([_column(samples, name) for name in samples.dtype.names])

    def in_words(self, spec: SampleSpec) -> str:
        """Count the columns of each kind."""
        if not spec.details:
            return f"{spec.shape[0]} numbers a row"
        table = table_of(spec)
        return f"{len(table.numbers)} columns of numbers, {len(table.categories)} of categories"

    def check(self, spec: SampleSpec) -> None:
        """Refuse what does not describe columns."""
        columns_of(spec)

    def agreed(self, specs: Sequence[SampleSpec], weights: NDArray[np.float64]) -> SampleSpec:
        """Return the columns that at least half of the clients have, with all their levels."""
        agreed = agreed_columns([columns_of(spec) for spec in specs])
        return spec_of(agreed) if agreed else super().agreed(specs, weights)

    def check_fit(self, own: SampleSpec, spec: SampleSpec) -> None:
        """Refuse a table without any of the columns, or with texts where numbers should be."""
        if own == spec:
            return
        mine = {column.name: column for column in columns_of(own)}
        wanted = columns_of(spec)
        if not any(column.name in mine for column in wanted):
            raise ModalityError(
                f"the table has none of the federation's columns, {_named(wanted)}; it has "
                f"{_named(columns_of(own))}: name its columns alike"
            )
        for column in wanted:
            levels = mine.get(column.name, column).levels
            if column.numbers and levels:
                raise ModalityError(
                    f"column {column.name!r} holds texts such as {levels[0]!r}, the federation's "
                    "holds numbers: write numbers, or name it in categorical-columns at all clients"
                )

    def left_out(self, own: SampleSpec, spec: SampleSpec) -> tuple[str, ...]:
        """Name the columns that fewer than half of the clients have."""
        if own == spec or not (own.details and spec.details):
            return ()
        agreed = {column.name for column in columns_of(spec)}
        return tuple(column.name for column in columns_of(own) if column.name not in agreed)

    def in_spec(self, samples: NDArray[Any], spec: SampleSpec) -> NDArray[Any]:
        """Make each row the vector that `Table` describes; what is not known here is a hole."""
        if samples.dtype.names is None:
            return samples
        table = table_of(spec)
        numbers = np.full((len(samples), len(table.numbers)), np.nan)
        for place, name in enumerate(table.numbers):
            if name in samples.dtype.names and samples.dtype[name].kind == "f":
                numbers[:, place] = samples[name]
        levels = [_one_hot(samples, column) for column in table.categories]
        return np.concatenate([numbers, np.isnan(numbers), *levels], axis=1)

    def moments(self, samples: NDArray[Any]) -> Rows:
        """Return the share of cells filled, and the mean of numbers and of squares, a column."""
        return tuple(
            _moments(samples[name])
            for name in samples.dtype.names or ()
            if samples.dtype[name].kind == "f"
        )

    def check_moments(self, spec: SampleSpec, moments: Rows) -> None:
        """Refuse moments that no numbers have."""
        check_length("moments", moments, len(table_of(spec).numbers), 3, "columns of numbers")
        for share, mean, square in moments:
            # (sum of n numbers)^2 <= n * sum of squares; rounding gets a little room.
            if not 0 <= share <= 1 or square < 0 or mean * mean > share * square * (1 + 1e-6):
                raise ModalityError(f"moments {share, mean, square} are of no column of numbers")

    def moments_in(self, spec: SampleSpec, own: SampleSpec, moments: Rows) -> Rows:
        """Pick the federation's columns; one that the client has not is empty."""
        mine = dict(zip(table_of(own).numbers, moments, strict=True))
        return tuple(mine.get(name, (0.0, 0.0, 0.0)) for name in table_of(spec).numbers)

    def scale(
        self, spec: SampleSpec, moments: Sequence[Rows], weights: NDArray[np.float64]
    ) -> Rows:
        """Return mean and deviation of the cells that are filled; 0 and 1 for all else."""
        numbers = len(table_of(spec).numbers)
        stacked = np.array(moments, dtype=np.float64).reshape(len(moments), numbers, 3)
        shares, means, squares = np.einsum("i,icm->mc", weights, stacked)
        filled = np.where(shares > 0, shares, 1.0)
        rows = deviation_rows(means / filled, squares / filled)
        return rows + (PLAIN,) * (spec.shape[0] - numbers)

    def plain_scale(self, spec: SampleSpec) -> Rows:
        """Return mean 0 and deviation 1: holes become 0."""
        return (PLAIN,) * spec.shape[0]

    def check_scale(self, spec: SampleSpec, scale: Rows) -> None:
        """Refuse deviations that are not positive."""
        check_deviation_rows(scale, spec.shape[0], "numbers of a row")

    def to_device(self, device: torch.device, data: LabelledSamples, scale: Rows) -> Samples:
        """Copy scaled and filled rows to `device`."""
        rows = self.subspace_matrix(data.samples, scale).astype(np.float32)
        labels = torch.from_numpy(data.labels).to(device)
        return Samples(torch.from_numpy(rows).to(device), labels)

    def device_bytes(self, samples: NDArray[Any]) -> int:
        """Bytes of the rows as `to_device` leaves them; of a table not yet brought, about."""
        return 4 * samples.size * (1 if samples.dtype.names is None else len(samples.dtype.names))

    def subspace_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return what a model gets: rows scaled, holes filled, categories one-hot."""
        return np.nan_to_num(scaled(samples, scale), nan=0.0)

    def subspace_features(self, spec: SampleSpec) -> int:
        """Return the numbers of a row."""
        return spec.shape[0]

    def default_encoder(self, spec: SampleSpec) -> nn.Module:
        """Make a multilayer perceptron with an embedding for each category."""
        table = table_of(spec)
        return TabularEncoder(2 * len(table.numbers), table.level_counts)


def _column(samples: NDArray[Any], name: str) -> Column:
    if samples.dtype[name].kind == "f":
        return Column(name)
    return Column(name, tuple(sorted(set(np.unique(samples[name]).tolist()) - {""})))


def _moments(cells: NDArray[np.float64]) -> tuple[float, float, float]:
    filled = ~np.isnan(cells)
    values = np.where(filled, cells, 0.0)
    return float(filled.mean()), float(values.mean()), float((values**2).mean())


def _one_hot(samples: NDArray[Any], column: Column) -> NDArray[np.float64]:
    """Return shape (n, 1 + levels): which level a cell is, 0 for a hole or an unknown one."""
    levels = np.array(column.levels or (), dtype=np.str_)
    places = np.zeros(len(samples), dtype=np.int64)
    if column.name in (samples.dtype.names or ()) and len(levels):
        cells = samples[column.name]
        texts = number_texts(cells) if cells.dtype.kind == "f" else cells
        found = np.minimum(np.searchsorted(levels, texts), len(levels) - 1)
        places = np.where(levels[found] == texts, found + 1, 0)
    return np.eye(1 + len(levels))[places]


def _named(columns: Sequence[Column]) -> str:
    names = [column.name for column in columns]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
