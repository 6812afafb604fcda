"""Numbers and lists in words."""

from feddag_flwr.data.images.words import listed

__all__ = ["listed", "several"]


def several(count: int, noun: str) -> str:
    """Return "1 file", "2 files"."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return "files"; "series" is that already."""
    return noun if noun.endswith("s") else f"{noun}s"
