"""JSON of a run folder as what it should be; what is of another kind counts as missing.

A folder may be old, damaged, or written by a version to come: a page about it must not fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | None:
    """Return a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if isfinite(value) else None


def numbers(value: object) -> dict[str, float]:
    """Return those entries of an object that are finite numbers."""
    return {key: n for key, each in mapping(value).items() if (n := number(each)) is not None}


def items(value: object) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list."""
    return tuple(each for each in items(value) if isinstance(each, str))


def whole(value: object) -> int | None:
    """Return a whole number of at least 0; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_object(path: Path, faults: list[str]) -> dict[str, Any] | None:
    """Read a file of one JSON object; None where it is missing, or, with a fault, unreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        faults.append(f"{path.name} cannot be read ({type(error).__name__}) and is passed over.")
        return None
    if not isinstance(found, dict):
        faults.append(f"{path.name} is no JSON object and is passed over.")
        return None
    return found


def read_lines(path: Path, faults: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; a fault says how many lines are none."""
    skipped = 0
    try:
        with path.open("rb") as stream:
            for line in stream:
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if isinstance(found, dict):
                    yield found
                elif line.strip():
                    skipped += 1
    except FileNotFoundError:
        return
    except OSError as error:
        faults.append(f"{path.name} cannot be read to its end ({error.strerror}).")
    if skipped:
        lines = "1 line" if skipped == 1 else f"{skipped} lines"
        faults.append(f"{path.name}: {lines} cannot be read and {_are(skipped)} skipped.")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
