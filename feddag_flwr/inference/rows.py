"""Rows of tables, embeddings and series that somebody wants classified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.array_files import LABEL, read_unlabelled
from feddag_flwr.data.labels import label_texts
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.series_files import padded_series
from feddag_flwr.data.table_files import RawTable, read_table_file
from feddag_flwr.data.tables import feature_tables
from feddag_flwr.inference.pictures import Batch
from feddag_flwr.inference.served import Served
from feddag_flwr.modalities import Modality, ModalityError, load_modality
from feddag_flwr.modalities.columns import table_of


def read_samples(paths: Sequence[Path], served: Served) -> Iterator[Batch]:
    """Read tables and ``.npz`` archives for a model that takes such samples, a file a batch.

    A label need not be there; where it is, it becomes the truth. `DataError` where a path is
    missing, holds nothing, or samples of another form than the model takes.
    """
    modality = load_modality(served.modality)
    for path in paths:
        if path.suffix.lower() == ".npz":
            raw = read_unlabelled(path, modality)
        else:
            raw = read_table_file(path)  # embeddings come in archives alone
        samples = _samples(raw, served, modality)
        try:
            modality.check_fit(modality.spec(samples), served.spec)
        except ModalityError as error:
            raise DataError(f"{path}: {error}") from error
        inputs = plain_inputs(modality.in_spec(samples, served.spec), served.modality)
        names = [f"{path}:{row}" for row in raw.rows]
        yield Batch(names, _truths(raw, served), [""] * len(names), inputs)


def plain_inputs(samples: NDArray[Any], modality: str) -> NDArray[np.float32]:
    """Bring samples of the federation's spec to what the classifiers of `prepared` take."""
    if modality != "series":
        return samples.astype(np.float32)
    there = ~np.isnan(samples[:, :, :1])
    inputs = np.concatenate([np.where(there, samples, 0.0), there], axis=2)
    return inputs.astype(np.float32)


def _samples(raw: RawTable, served: Served, modality: Modality) -> NDArray[Any]:
    if served.modality != "tabular":
        if modality.array in raw.columns:
            return modality.accept(raw.columns[modality.array], str(raw.path))
        return modality.accept(padded_series(raw), str(raw.path))
    table = table_of(served.spec)
    kinds = dict.fromkeys(table.numbers, True) | {c.name: False for c in table.categories}
    kept = {name: cells for name, cells in raw.columns.items() if name in kinds}
    if not kept:
        raise DataError(
            f"{raw.path}: none of the columns that the model takes, {', '.join(map(repr, kinds))}"
        )
    return feature_tables([RawTable(raw.path, kept, raw.rows)], frozenset(), kinds=kinds)[0]


def _truths(raw: RawTable, served: Served) -> list[str | None]:
    known = [name for name in (served.options.label, LABEL) if name in raw.columns]
    if not known:
        return [None] * len(raw)
    texts = label_texts(raw.columns[known[0]], f"{raw.path}: column {known[0]!r}").tolist()
    classes = dict(served.options.classes)
    return [classes.get(text, text) or None for text in texts]
