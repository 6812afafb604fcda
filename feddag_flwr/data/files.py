"""Samples from a person's own .npz archive.

What is missing, damaged or of another form raises a `DataError` that names the path.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from feddag_flwr.class_names import class_name
from feddag_flwr.data.labels import classes_of, label_texts
from feddag_flwr.data.npz_layout import Layout, Pair, find_layout, find_samples, missing
from feddag_flwr.data.samples import DataError, LabelledSamples, Parts, in_one_line
from feddag_flwr.modalities import Modality, load_modality

MAX_CLASSES = 10_000


def read_npz(path: Path, modality: Modality, *, unlabelled: bool = False) -> Parts:
    """Read an .npz archive; pickled content is refused.

    The archive holds samples under the name and in the form that the modality says (``images``),
    and ``labels``, (n,) or (n, 1) whole numbers from 0; optionally ``test_images`` and
    ``test_labels`` alike, and ``class_names``, a one-dimensional array of unicode strings, else "0"
    to the highest label. Labels may be texts instead, the names of classes. Other common names of
    the arrays are known too (`feddag_flwr.data.npz_layout`). Where `unlabelled` lets it, an archive
    without any labels is read too, for its training samples.
    """
    with opened_archive(path) as archive:
        layout = find_layout(archive.files, modality.array)
        if unlabelled and layout.train.labels not in archive.files and layout.test is None:
            return _npz_without_labels(path, archive, layout, modality)
        pairs = [layout.train] + ([layout.test] if layout.test else [])
        parts, names = _npz_parts(path, archive, pairs, layout.class_names, modality)
        train, test = parts[0], parts[1] if layout.test else None
        if not len(train):
            what = f"{modality.array} ({layout.train.samples!r} has length 0)"
            raise DataError(f"{path}: no train {what}")
        if layout.test is not None and test is not None:
            _check_test(path, layout.test.samples, test, layout.train.samples, train, modality)
        return Parts(train, test, names)


def _npz_without_labels(path: Path, archive: NpzFile, layout: Layout, modality: Modality) -> Parts:
    key = layout.train.samples
    stored = array_in(path, archive, key, modality.array)
    samples = modality.accept(stored, f"{path}: {key!r}")
    if not len(samples):
        raise DataError(f"{path}: no train {modality.array} ({key!r} has length 0)")
    return Parts(LabelledSamples.without_labels(samples), None, ())


def npz_layout(path: Path, array: str = "images") -> Layout:
    """Return which arrays of an archive `read_npz` reads."""
    with opened_archive(path) as archive:
        return find_layout(archive.files, array)


class NpzImages(NamedTuple):
    """Images of an archive, which need not say what they show."""

    images: NDArray[Any]  # (n, channels, height, width), uint8, or float32 in [0, 1]
    key: str  # array that they come from
    labels: NDArray[np.int64] | None  # (n,)
    class_names: tuple[str, ...]  # empty without labels


def read_npz_images(path: Path) -> NpzImages:
    """Read the images of an archive as in `read_npz`, of the test part where it has one."""
    modality = load_modality("image")
    with opened_archive(path) as archive:
        pair = find_samples(archive.files)
        if pair.labels not in archive.files:
            stored = array_in(path, archive, pair.samples, modality.array)
            images = modality.accept(stored, f"{path}: {pair.samples!r}")
            return NpzImages(images, pair.samples, None, ())
        key = find_layout(archive.files).class_names
        (part,), names = _npz_parts(path, archive, [pair], key, modality)
        return NpzImages(part.samples, pair.samples, part.labels, names)


@contextmanager
def opened_archive(path: Path) -> Iterator[NpzFile]:
    """Open an archive; whatever NumPy, zipfile or a codec raises for it becomes a DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an .npz archive")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise DataError(_unreadable_npz(path, "it is a single array"))
        with archive:
            yield archive
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory ({in_one_line(error)})") from error
    except Exception as error:  # of many kinds, as bytes can be broken in many places
        raise DataError(_unreadable_npz(path, in_one_line(error))) from error


def _unreadable_npz(path: Path, reason: str) -> str:
    return f"{path}: not a readable .npz archive of plain arrays without pickles ({reason})"


def array_in(path: Path, archive: NpzFile, key: str, array: str) -> NDArray[Any]:
    """Return one array of an archive; `array` is the name of its samples, for the message."""
    if key not in archive.files:
        raise DataError(f"{path}: {missing(key, archive.files, array)}")
    stored = archive[key]
    if not isinstance(stored, np.ndarray):  # NumPy returns the bytes of a member that is none
        raise DataError(_unreadable_npz(path, f"{key!r} is no array"))
    return stored


def _npz_parts(
    path: Path, archive: NpzFile, pairs: list[Pair], class_names: str | None, modality: Modality
) -> tuple[list[LabelledSamples], tuple[str, ...]]:
    """Return the samples of some pairs of arrays, and the names of their classes."""
    held, stored = [], []
    for pair in pairs:
        samples = array_in(path, archive, pair.samples, modality.array)
        labels = array_in(path, archive, pair.labels, modality.array)
        held.append(modality.accept(samples, f"{path}: {pair.samples!r}"))
        stored.append(labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels)
    for pair, samples, labels in zip(pairs, held, stored, strict=True):
        if labels.ndim == 1 and len(labels) != len(samples):
            raise DataError(
                f"{path}: {len(samples)} {pair.samples!r} but {len(labels)} {pair.labels!r}"
            )
    keys = [pair.labels for pair in pairs]
    if stored[0].dtype.kind == "U":
        numbers, names = _labels_by_name(path, keys, stored, class_names)
    else:
        numbers = [_whole(path, key, each) for key, each in zip(keys, stored, strict=True)]
        highest = max(int(each.max(initial=-1)) for each in numbers)
        names = npz_class_names(path, archive, class_names, highest)
    return [LabelledSamples(*pair) for pair in zip(held, numbers, strict=True)], names


def _labels_by_name(
    path: Path, keys: list[str], stored: list[NDArray[Any]], class_names: str | None
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Give the classes that labels name, which are texts, their numbers."""
    if class_names is not None:
        raise DataError(
            f"{path}: {keys[0]!r} are texts, which name their classes, but {class_names!r} is "
            "there too; leave it out, or write labels as numbers"
        )
    texts = [label_texts(each, f"{path}: {key!r}") for key, each in zip(keys, stored, strict=True)]
    places = [
        f"{key}[{row}]" for key, each in zip(keys, texts, strict=True) for row in range(len(each))
    ]
    numbers, names = classes_of(
        np.concatenate(texts), f"{path}: {keys[0]!r}", renamed={}, place=places.__getitem__
    )
    return np.split(numbers, np.cumsum([len(each) for each in texts])[:-1]), names


def _whole(path: Path, key: str, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels as integers, whole numbers from 0; a `DataError` names one that is none."""
    labels = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    if labels.dtype.kind not in "iuf" or labels.ndim != 1:
        raise DataError(
            f"{path}: {key!r} is {labels.dtype} of shape {labels.shape}; "
            "expected integers or texts of shape (n,)"
        )
    if (empty := np.flatnonzero(np.isnan(labels))).size:
        raise DataError(
            f"{path}: {key}[{empty[0]}] has no label; write one, or leave it out "
            f"({empty.size} have none)"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= MAX_CLASSES) | (labels % 1 != 0))
    if wrong.size:
        raise DataError(
            f"{path}: {key}[{wrong[0]}] = {labels[wrong[0]]}; expected a whole number, "
            f"0 to {MAX_CLASSES - 1} at most: mend it or leave it out ({wrong.size} such labels)"
        )
    return labels.astype(np.int64)


def _check_test(
    path: Path,
    test_key: str,
    test: LabelledSamples,
    train_key: str,
    train: LabelledSamples,
    modality: Modality,
) -> None:
    """Refuse an empty test part, and one whose samples differ from those to train on."""
    if not len(test):
        raise DataError(f"{path}: {test_key!r} has length 0; leave it out or fill it")
    shapes = test.samples.shape[1:], train.samples.shape[1:]
    if shapes[0] != shapes[1] or test.samples.dtype != train.samples.dtype:
        test_words, train_words = (
            f"{modality.in_words(modality.spec(part.samples))}, {part.samples.dtype}"
            for part in (test, train)
        )
        raise DataError(
            f"{path}: {test_key!r} are {test_words} but {train_key!r} are {train_words}; "
            "expected the same shape and type"
        )


def npz_class_names(path: Path, archive: NpzFile, key: str | None, highest: int) -> tuple[str, ...]:
    """Return the names of classes that an archive has, at least up to the `highest` label."""
    if key is None:
        return tuple(str(label) for label in range(highest + 1))
    stored = array_in(path, archive, key, key)
    if stored.dtype.kind != "U" or stored.ndim != 1:
        raise DataError(
            f"{path}: {key!r} is {stored.dtype} of shape {stored.shape}; "
            "expected unicode strings of shape (classes,)"
        )
    names = tuple(class_name(str(name)) for name in stored)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{path}: {key!r} has duplicates ({repeated[0]!r}); expected each name once"
        )
    if highest >= len(names):
        raise DataError(
            f"{path}: label {highest} is out of range for {len(names)} {key!r}; "
            f"expected 0 to {len(names) - 1}"
        )
    return names
