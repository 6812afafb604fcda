"""Errors of Flower: which pass, and what they say in a line."""

from __future__ import annotations

import re
from typing import Final

from feddag_flwr.flower.private import DecodeError, HTTPStatusError

# Letters that are read of a client's reason for an error, and of each of its lines.
LONGEST_REASON: Final = 20_000
LONGEST_LINE: Final = 500
# What Flower raises over bytes that are no message; not what it raises when the SuperLink is gone.
UNREADABLE: Final = (
    ValueError, TypeError, LookupError, AttributeError, AssertionError, RecursionError, DecodeError,
)  # fmt: skip


def check_passing(error: Exception) -> None:
    """Raise an error again that says that the run, not the SuperLink, is at fault."""
    if isinstance(error, HTTPStatusError) and not error.response.is_server_error:
        raise error


def one_line(reason: str) -> str:
    """Shorten an error's reason to one printable line: the last that names an error, or the first.

    A traceback names its error in its last lines, which may be followed by advice.
    """
    lines = [line.strip()[:LONGEST_LINE] for line in reason[-LONGEST_REASON:].splitlines()]
    named = [line for line in lines if re.search(r"(Error|Exception)\b", line)]
    line = (named[-1:] or [line for line in lines if line][:1] or ["no reason given"])[0]
    return "".join(char if char.isprintable() else " " for char in line)
