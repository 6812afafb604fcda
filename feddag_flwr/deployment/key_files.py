"""Files of keys and certificates: whole or not there, and private ones for the owner alone."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist yet.

    Parameters
    ----------
    path : Path
        The file; its folder is made where it is missing.
    content : bytes
        What it holds.
    mode : int
        Its permissions, in force before the first byte is in it, whatever the umask.

    Raises
    ------
    FileExistsError
        If there is a file of that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    binary = getattr(os, "O_BINARY", 0)  # Windows
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | binary, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod"):  # not on Windows, where folders hand down who may read
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()  # half a key must not look like a key when the command is run again
        raise


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file in the place of another of that name, which is whole until the new one is.

    Parameters
    ----------
    path, content, mode : Path, bytes, int
        As for `write_new`.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    write_new(beside, content, mode)
    beside.replace(path)
