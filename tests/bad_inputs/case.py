"""One cell of the table of bad inputs: what is made, and what is right."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple


class Right(NamedTuple):
    """The data is used.

    Attributes
    ----------
    says : tuple of str
        What check-data says of it.
    samples : int or None
        Of training and test part together, where the number is not that of the maker's 24.
    """

    says: tuple[str, ...] = ()
    samples: int | None = 24


class Refused(NamedTuple):
    """The data is not used: one sentence has all these words, and what is wrong with which file."""

    says: tuple[str, ...]


class Case(NamedTuple):
    """An input, made in an empty folder; what is returned is the client's path."""

    name: str
    make: Callable[[Path], Path]
    outcome: Right | Refused
    settings: Mapping[str, str | int | float | bool] = {}
    at_node: Right | Refused | None = None  # where it is not that of check-data
