"""Which arrays of an .npz archive hold what: the names that people give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

CLASS_NAMES = "class_names"
_MOST_NAMED = 20


class Pair(NamedTuple):
    """Names of an array of samples and of the array of their labels."""

    samples: str
    labels: str


def _pairs(array: str, *parts: str) -> tuple[Pair, ...]:
    pairs = [Pair(f"{part}_{array}", f"{part}_labels") for part in parts]
    return (*pairs, *(Pair(f"x_{part}", f"y_{part}") for part in parts))


class Names:
    """The pairs of names under which parts are looked for, in this order.

    Parameters
    ----------
    array : str
        What the modality calls samples, for instance ``images``.
    """

    def __init__(self, array: str = "images") -> None:
        self.own = Pair(array, "labels")
        self.own_test = Pair(f"test_{array}", "test_labels")
        self.train = (self.own, *_pairs(array, "train"), Pair("x", "y"))
        self.test = _pairs(array, "test")
        self.validation = _pairs(array, "val", "valid", "validation")


class Layout(NamedTuple):
    """What an archive holds.

    Attributes
    ----------
    train : Pair
        Names as the archive spells them; where it has no such arrays, ``images`` and ``labels``.
    test : Pair or None
        The test part; the validation part where there is no test part.
    class_names : str or None
        The array of class names.
    passed_over : tuple of str
        What nobody reads, sorted.
    """

    train: Pair
    test: Pair | None
    class_names: str | None
    passed_over: tuple[str, ...]


def find_layout(names: Sequence[str], array: str = "images") -> Layout:
    """Find the parts among the names of an archive's arrays, whatever their case.

    The first pair of train, test and validation part (`Names`) that is whole is taken. ``images``
    or ``test_images`` without its labels, or the other way round, is taken too, for the reader to
    refuse.
    """
    spelt, known = _spelt(names), Names(array)
    train = next(_whole(known.train, spelt), None) or next(_begun(known.train, spelt), known.own)
    test = next(_whole(known.test, spelt), None) or next(_begun([known.own_test], spelt), None)
    test = test or next(_whole(known.validation, spelt), None)
    class_names = spelt.get(CLASS_NAMES)
    read = {*train, *(test or ()), class_names}
    return Layout(train, test, class_names, tuple(sorted(set(names) - read)))


def find_images(names: Sequence[str]) -> Pair:
    """Find the images to classify: of the test, else the validation, else the training part.

    They need no labels. Without any, ``images`` is returned, for the reader to refuse.
    """
    spelt, known = _spelt(names), Names()
    order = (*known.test, *known.validation, *known.train)
    pairs = (_as_spelt(pair, spelt) for pair in order)
    return next((pair for pair in pairs if pair.samples in spelt.values()), known.own)


def missing(key: str, names: Sequence[str], array: str = "images") -> str:
    """Say that an array is not there, what is, and what could be."""
    found = sorted(names)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    known = ", or ".join(f"{pair.samples!r} and {pair.labels!r}" for pair in Names(array).train)
    return f"no array {key!r}; it has {found[:_MOST_NAMED]}{more}, expected {known}"


def _spelt(names: Iterable[str]) -> dict[str, str]:
    """Map names in small letters to names as they are; one in small letters comes first."""
    return {name.lower(): name for name in sorted(names, key=lambda name: name.islower())}


def _as_spelt(pair: Pair, spelt: dict[str, str]) -> Pair:
    return Pair(*(spelt.get(name, name) for name in pair))


def _whole(pairs: Iterable[Pair], spelt: dict[str, str]) -> Iterator[Pair]:
    return (_as_spelt(pair, spelt) for pair in pairs if spelt.keys() >= set(pair))


def _begun(pairs: Iterable[Pair], spelt: dict[str, str]) -> Iterator[Pair]:
    return (_as_spelt(pair, spelt) for pair in pairs if spelt.keys() & set(pair))
