"""Archives of rows, embeddings or series: labels of any writing, series of their own lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from feddag_flwr.data.files import array_in, npz_class_names, opened_archive
from feddag_flwr.data.labels import classes_of, label_texts
from feddag_flwr.data.npz_layout import Layout, Pair, find_layout, find_samples
from feddag_flwr.data.samples import DataError, LabelledSamples, Parts
from feddag_flwr.data.table_files import RawTable, check_names
from feddag_flwr.data.tables import TableOptions, feature_tables
from feddag_flwr.modalities import Modality

# Names of the columns of ``features``; steps of each series, beside ``series`` or ``test_series``.
COLUMN_NAMES = "column_names"
LENGTHS = "lengths"
# Column of the labels in what `read_unlabelled` returns.
LABEL = "label"


def read_arrays(path: Path, modality: Modality, options: TableOptions) -> Parts:
    """Read an .npz archive of samples that are no images; pickled content is refused.

    It holds samples under the name that the modality says, and labels: integers from wherever,
    whole floats, or texts. With ``class_names`` labels are 0 to C - 1. Test part and other names
    of the arrays are as for images. A table's ``features`` (n, d) may be numbers or texts, with
    ``column_names`` (d,); series may have ``lengths`` (n,), and ``test_lengths``.
    """
    with opened_archive(path) as archive:
        layout = find_layout(archive.files, modality.array)
        pairs = [layout.train] + ([layout.test] if layout.test else [])
        parts = [_samples(path, archive, pair, modality) for pair in pairs]
        labels, names = _labels(path, archive, layout, pairs, options, modality)
        if modality.array == "features":
            parts = feature_tables(
                [_raw(path, archive, s, p, options) for s, p in zip(parts, pairs, strict=True)],
                options.categorical,
            )
        else:
            parts = _accepted(path, archive, parts, pairs, modality)
    for pair, samples, each in zip(pairs, parts, labels, strict=True):
        if len(samples) != len(each):
            raise DataError(
                f"{path}: {len(samples)} {pair.samples!r} but {len(each)} {pair.labels!r}"
            )
    train, *test = (LabelledSamples(*pair) for pair in zip(parts, labels, strict=True))
    return Parts(train, test[0] if test else None, names)


def read_unlabelled(path: Path, modality: Modality) -> RawTable:
    """Read samples that need no labels, of the test part where there is one, as columns.

    Rows of ``features`` as a table; else one column, called as the array is, or for series, a
    column of lists a channel. Labels, where they are, are the column ``label``.
    """
    with opened_archive(path) as archive:
        pair = find_samples(archive.files, modality.array)
        samples = _samples(path, archive, pair, modality)
        if modality.array == "features":
            raw = _raw(path, archive, samples, pair, TableOptions())
        else:
            samples = _accepted(path, archive, [samples], [pair], modality)[0]
            rows = tuple(f"{pair.samples}[{row}]" for row in range(len(samples)))
            raw = RawTable(path, {modality.array: samples}, rows)
        if pair.labels in archive.files:
            raw.columns[LABEL] = _label_names(path, archive, pair, modality)
    return raw


def _label_names(path: Path, archive: NpzFile, pair: Pair, modality: Modality) -> NDArray[np.str_]:
    """Return the labels' texts, or the names of classes that the archive has for them."""
    stored = array_in(path, archive, pair.labels, modality.array)
    texts = label_texts(stored, f"{path}: {pair.labels!r}")
    key = find_layout(archive.files, modality.array).class_names
    if key is None:
        return texts
    names = dict(enumerate(npz_class_names(path, archive, key, -1)))
    return np.array([names.get(int(text), "") if text.isdecimal() else "" for text in texts])


def _samples(path: Path, archive: NpzFile, pair: Pair, modality: Modality) -> NDArray[Any]:
    samples = array_in(path, archive, pair.samples, modality.array)
    if not samples.ndim or not len(samples):
        raise DataError(f"{path}: {pair.samples!r} has length 0; leave it out or fill it")
    return samples


def _labels(
    path: Path,
    archive: NpzFile,
    layout: Layout,
    pairs: list[Pair],
    options: TableOptions,
    modality: Modality,
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    texts, places = [], []
    for pair in pairs:
        stored = array_in(path, archive, pair.labels, modality.array)
        texts.append(label_texts(stored, f"{path}: {pair.labels!r}"))
        places += [f"{pair.labels}[{row}]" for row in range(len(texts[-1]))]
    given: tuple[str, ...] = ()
    if layout.class_names is not None:
        given = npz_class_names(path, archive, layout.class_names, -1)
    labels, names = classes_of(
        np.concatenate(texts),
        f"{path}: {layout.train.labels!r}",
        renamed=dict(options.classes),
        place=places.__getitem__,
        given=given,
    )
    return np.split(labels, np.cumsum([len(part) for part in texts])[:-1]), names


def _raw(
    path: Path, archive: NpzFile, samples: NDArray[Any], pair: Pair, options: TableOptions
) -> RawTable:
    """Take features (n, d) as a table."""
    if samples.ndim != 2 or samples.dtype.kind not in "biufU" or not samples.shape[1]:
        raise DataError(
            f"{path}: {pair.samples!r} is {samples.dtype} of shape {samples.shape}; expected "
            "numbers or texts of shape (n, columns)"
        )
    names = [str(column) for column in range(samples.shape[1])]
    if COLUMN_NAMES in archive.files:
        stored = array_in(path, archive, COLUMN_NAMES, COLUMN_NAMES)
        if stored.dtype.kind != "U" or stored.shape != (samples.shape[1],):
            raise DataError(
                f"{path}: {COLUMN_NAMES!r} is {stored.dtype} of shape {stored.shape}; expected "
                f"{samples.shape[1]} texts, one for each column of {pair.samples!r}"
            )
        names = [str(name) for name in stored]
        check_names(path, names)
    cells = samples if samples.dtype.kind == "U" else samples.astype(np.float64)
    kept = {n: cells[:, i] for i, n in enumerate(names) if n not in options.dropped}
    rows = tuple(f"{pair.samples}[{row}]" for row in range(len(samples)))
    return RawTable(path, kept, rows)


def _accepted(
    path: Path,
    archive: NpzFile,
    parts: list[NDArray[Any]],
    pairs: list[Pair],
    modality: Modality,
) -> list[NDArray[Any]]:
    if modality.array == "series":
        parts = [_cut(path, archive, part, pair) for part, pair in zip(parts, pairs, strict=True)]
    accepted = [
        modality.accept(part, f"{path}: {pair.samples!r}")
        for part, pair in zip(parts, pairs, strict=True)
    ]
    specs = [modality.spec(part) for part in accepted]
    if specs[-1] != specs[0]:
        raise DataError(
            f"{path}: {pairs[-1].samples!r} are {modality.in_words(specs[-1])}, but "
            f"{pairs[0].samples!r} are {modality.in_words(specs[0])}; expected the same"
        )
    return accepted


def _cut(path: Path, archive: NpzFile, series: NDArray[Any], pair: Pair) -> NDArray[Any]:
    """Put NaN behind the end of each series, where the archive says how long they are."""
    key = pair.samples.replace("series", LENGTHS)
    if key not in archive.files or key == pair.samples or series.ndim not in {2, 3}:
        return series
    lengths = array_in(path, archive, key, key)
    if lengths.dtype.kind not in "iu" or lengths.shape != series.shape[:1]:
        raise DataError(
            f"{path}: {key!r} is {lengths.dtype} of shape {lengths.shape}; expected "
            f"{len(series)} integers, one a series"
        )
    wrong = np.flatnonzero((lengths < 1) | (lengths > series.shape[1]))
    if wrong.size:
        raise DataError(
            f"{path}: {key}[{wrong[0]}] = {lengths[wrong[0]]}; expected 1 to {series.shape[1]}: "
            "leave the series out, with its label, or mend its length"
        )
    cut = series.astype(np.float64)
    cut[np.arange(series.shape[1]) >= lengths[:, np.newaxis]] = np.nan
    return cut
