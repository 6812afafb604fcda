"""Which arrays of an .npz archive hold what: the names that people give them."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

CLASS_NAMES = "class_names"
_MOST_NAMED = 20
# What modalities call their samples.
_OTHERS = {"images": "image", "features": "tabular", "series": "series", "embeddings": "embedding"}


class Pair(NamedTuple):
    """Names of an array of samples and of the array of their labels."""

    samples: str
    labels: str


def _pairs(array: str, *parts: str) -> tuple[Pair, ...]:
    pairs = [Pair(f"{part}_{array}", f"{part}_labels") for part in parts]
    return (*pairs, *(Pair(f"x_{part}", f"y_{part}") for part in parts))


def _known(array: str) -> tuple[tuple[Pair, ...], ...]:
    """Pairs under which the train, test and validation part are looked for, in this order."""
    train = (Pair(array, "labels"), *_pairs(array, "train"), Pair("x", "y"))
    return train, _pairs(array, "test"), _pairs(array, "val", "valid", "validation")


class Layout(NamedTuple):
    """What an archive holds."""

    train: Pair  # names as the archive spells them; ``images`` and ``labels`` where it has none
    test: Pair | None  # the validation part where there is no test part
    class_names: str | None  # the array of them
    passed_over: tuple[str, ...]  # what nobody reads, sorted


def find_layout(names: Sequence[str], array: str = "images") -> Layout:
    """Find the parts among the names of an archive's arrays, whatever their case.

    The first pair of train, test and validation part that is whole is taken. ``images``
    or ``test_images`` without its labels, or the other way round, is taken too, for the reader to
    refuse.
    """
    spelt, (trains, tests, validations) = _spelt(names), _known(array)
    train = _first(all, trains, spelt) or _first(any, trains, spelt) or trains[0]
    test = _first(all, tests, spelt) or _first(any, tests[:1], spelt)
    test = test or _first(all, validations, spelt)
    class_names = spelt.get(CLASS_NAMES)
    read = {*train, *(test or ()), class_names}
    return Layout(train, test, class_names, tuple(sorted(set(names) - read)))


def find_samples(names: Sequence[str], array: str = "images") -> Pair:
    """Find the samples to classify: of the test, else the validation, else the training part.

    They need no labels. Without any, those of the training part are returned, for the reader to
    refuse.
    """
    spelt, (trains, tests, validations) = _spelt(names), _known(array)
    pairs = (_as_spelt(pair, spelt) for pair in (*tests, *validations, *trains))
    return next((pair for pair in pairs if pair.samples in spelt.values()), trains[0])


def missing(key: str, names: Sequence[str], array: str = "images") -> str:
    """Say that an array is not there, what is, and what could be."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    known = ", or ".join(f"{pair.samples!r} and {pair.labels!r}" for pair in _known(array)[0])
    hint = next(
        (
            f"; setting modality = {modality!r} reads {other!r}"
            for other, modality in _OTHERS.items()
            if other != array and any(name.lower().endswith(other) for name in names)
        ),
        "",
    )
    return f"no array {key!r}; it has {sorted(names)[:_MOST_NAMED]}{more}, expected {known}{hint}"


def _spelt(names: Iterable[str]) -> dict[str, str]:
    """Map names in small letters to names as they are; one in small letters comes first."""
    return {name.lower(): name for name in sorted(names, key=lambda name: name.islower())}


def _as_spelt(pair: Pair, spelt: dict[str, str]) -> Pair:
    return Pair(*(spelt.get(name, name) for name in pair))


def _first(
    there: Callable[[Iterable[bool]], bool], pairs: Iterable[Pair], spelt: dict[str, str]
) -> Pair | None:
    """Return the first pair of which all arrays, or any, are there."""
    known = (pair for pair in pairs if there(name in spelt for name in pair))
    return next((_as_spelt(pair, spelt) for pair in known), None)
