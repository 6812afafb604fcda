"""What the benchmarks' command lines share."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(smallest: int) -> Callable[[str], int]:
    """Return a reader of integers that refuses, by an argparse error, any below `smallest`."""

    def read(text: str) -> int:
        number = int(text)
        if number < smallest:
            raise argparse.ArgumentTypeError(f"{number} is less than {smallest}")
        return number

    return read
