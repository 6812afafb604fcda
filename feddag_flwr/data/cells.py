"""Cells of tables: which are empty, which are numbers, and numbers as texts."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Empty cells, in small letters; an empty text is what they become.
EMPTY = frozenset({"", "?", "na", "n/a", "nan", "null"})
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_WITH_COMMA = re.compile(r"[+-]?\d+(?:\.\d+)*,\d+")
# The largest number that a model can be given.
LARGEST = float(np.finfo(np.float32).max)


def cell_text(cell: str) -> str:
    """Return a cell as it is compared: without blanks around it, "1.0" as "1", in Unicode's NFC.

    >>> [cell_text(cell) for cell in (" 1.0", "01", "?", "a b")]
    ['1', '01', '', 'a b']
    """
    text = unicodedata.normalize("NFC", cell.strip())
    if text.casefold() in EMPTY:
        return ""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def number_texts(numbers: NDArray[np.floating[Any]]) -> NDArray[np.str_]:
    """Write numbers (n,) as `cell_text` does: 1.0 as "1", NaN as the empty text.

    >>> number_texts(np.array([1.0, 0.5, np.nan])).tolist()
    ['1', '0.5', '']
    """
    whole = np.isfinite(numbers) & (numbers == np.trunc(numbers)) & (np.abs(numbers) < 2**53)
    texts = [
        str(int(number)) if is_whole else ("" if number != number else repr(number))
        for number, is_whole in zip(numbers.tolist(), whole.tolist(), strict=True)
    ]
    return np.array(texts, dtype=np.str_)


def number_of(text: str) -> float | None:
    """Read a cell's text as a number, NaN where it is empty; None where it is something else."""
    if not text:
        return float("nan")
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def has_decimal_comma(text: str) -> bool:
    """Tell whether a text is a number but for its comma.

    >>> [has_decimal_comma(text) for text in ("1,5", "-1.234,5", "1.5", "a,b")]
    [True, True, False, False]
    """
    return _WITH_COMMA.fullmatch(text) is not None


def unusable_numbers(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which numbers are infinite, or larger than any that a model can be given."""
    small = numbers.dtype.kind == "f" and numbers.dtype.itemsize <= 4  # can hold none too large
    found: NDArray[np.bool_] = np.isinf(numbers) if small else np.abs(numbers) > LARGEST
    return found


def number_in_words(number: float) -> str:
    """Say what is wrong with a number that is unusable: "is infinite", or "1e+200 is too large"."""
    return "is infinite" if np.isinf(number) else f"{number:g} is too large"
