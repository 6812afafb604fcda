"""TOML files that people wrote: read, and their faults named."""

import tomllib
from pathlib import Path
from typing import Any

END = "(at end of document)"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a byte order mark, as some editors for Windows write it, is passed over.

    `ValueError` where it is no TOML in UTF-8; names file and line.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}: not UTF-8 (at line {line})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = max(1, len(text.splitlines()))
        reason = str(error).replace(END, f"(at line {last}, the end of the file)")
        raise ValueError(f"{path}: {reason}") from None
