"""Numbers and lists in words."""

from collections.abc import Sequence

MOST_NAMED = 5


def several(count: int, noun: str) -> str:
    """Return "1 file", "2 files"."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return "files"; "series" is that already."""
    return noun if noun.endswith("s") else f"{noun}s"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
