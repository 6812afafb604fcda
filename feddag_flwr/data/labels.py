"""Labels of any writing: integers from wherever, with holes, whole floats, texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.class_names import class_name
from feddag_flwr.data.cells import cell_text, number_texts
from feddag_flwr.data.samples import DataError

MAX_CLASSES = 1000
MAX_LETTERS = 200

# From a number of a sample to what its owner calls it.
Place = Callable[[int], str]


def label_texts(labels: NDArray[Any], where: str) -> NDArray[np.str_]:
    """Write labels, (n,) or (n, 1), as texts: 0, 0.0 and "0.0" all as "0".

    A `DataError`, which begins with `where`, says that they are of another form.
    """
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "biufU":
        raise DataError(
            f"{where} is {labels.dtype} of shape {labels.shape}; expected integers, whole numbers "
            "or texts of shape (n,)"
        )
    if flat.dtype.kind == "U":
        return np.array([cell_text(str(label)) for label in flat], dtype=np.str_)
    if flat.dtype.kind == "b":
        flat = flat.astype(np.int64)
    return number_texts(flat.astype(np.float64))


def classes_of(
    texts: NDArray[np.str_],
    where: str,
    *,
    renamed: Mapping[str, str],
    place: Place,
    given: tuple[str, ...] = (),
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Give the classes that labels name their numbers.

    Parameters
    ----------
    texts : ndarray of str, shape (n,)
        One a sample.
    where : str
        What errors begin with.
    renamed : mapping
        From a label to its class; empty: a label is its class's name.
    place : callable
        What to call a sample.
    given : tuple of str
        Names of classes that the labels 0, 1, .. stand for; empty: labels are names.

    Returns
    -------
    labels : ndarray of int64, shape (n,)
    names : tuple of str
        Those `given`, else those that occur, sorted (as numbers where all are).
    """
    if (empty := np.flatnonzero(texts == "")).size:
        raise DataError(
            f"{where}: {place(int(empty[0]))} has no label; write one, or leave it out "
            f"({empty.size} have none)"
        )
    found = sorted(set(texts.tolist()))
    known = {str(index): name for index, name in enumerate(given)} if given else renamed
    if known and (unknown := [text for text in found if text not in known]):
        first = place(int(np.flatnonzero(texts == unknown[0])[0]))
        remedy = "class_names has" if given else "class-map has"
        only = f"of {first}: {remedy} {', '.join(map(repr, known))} only"
        raise DataError(f"{where}: label {unknown[0]!r} {only}", told=f"{where}: the label {only}")
    name_of = {text: class_name(known.get(text, text)) for text in found}
    names = given or _sorted_names(set(name_of.values()))
    _check_names(names, where)
    number = {name: index for index, name in enumerate(names)}
    return np.array([number[name_of[text]] for text in texts.tolist()], dtype=np.int64), names


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))


def _check_names(names: tuple[str, ...], where: str) -> None:
    if len(names) > MAX_CLASSES:
        raise DataError(
            f"{where}: {len(names):,} different labels, such as {names[0]!r}; expected classes, "
            f"{MAX_CLASSES:,} at most"
        )
    for name in names:
        if len(name) > MAX_LETTERS or not name.isprintable():
            raise DataError(f"{where}: {name[:40]!r} is no name of a class; shorten or rename it")
