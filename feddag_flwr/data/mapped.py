"""Rows of bytes that are made once, kept in a file, and mapped into memory instead of read.

A file of rows is ``NAME.u8``; ``NAME.json`` beside it, written last, says how many there are and
what its maker notes. Two processes may ask for the same file at once: one of them makes it.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Notes = Mapping[str, Any]
# Writes rows to a file; returns notes, of which ``rows`` is their number.
Maker = Callable[[BinaryIO], Notes]

ROWS = ".u8"
NOTES = ".json"
# Rows that are copied at a time.
CHUNK = 256
# Seconds after which an entry that nobody used goes.
UNUSED = 30 * 24 * 3600


def cache_folder(given: str | None = None) -> Path:
    """Return the folder for what can be made again: the one given, or this user's own."""
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "feddag-flwr"


@lru_cache
def usable_folder(folder: Path) -> Path:
    """Make a folder that only its owner can enter; one for this process where that fails."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    temporary = tempfile.mkdtemp(prefix="feddag-cache-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return Path(temporary)


def mapped_rows(
    path: Path, shape: tuple[int, ...], make: Maker, most: int
) -> tuple[NDArray[np.uint8], Notes]:
    """Return the rows of a file, each of `shape`, and their notes; made first where needed.

    Parameters
    ----------
    path : Path
        Without a suffix; its folder is made.
    shape : tuple of int
        Of a row.
    make : callable
    most : int
        Rows that there will be at most: so much space has to be free.

    Raises
    ------
    OSError
        There is not enough space, or the file cannot be written.
    """
    from filelock import FileLock

    found = _opened(path, shape)
    if found is None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(path.with_name(f"{path.name}.lock")):
            found = _opened(path, shape)  # another process may have made it meanwhile
            if found is None:
                _make(path, make, most * math.prod(shape))
                found = _opened(path, shape)
    if found is None:
        raise OSError(f"{path}{ROWS} went away while it was read")
    return found


def _opened(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], Notes] | None:
    """Map a file of rows; None where there is none, or it is not whole."""
    rows_path = _with(path, ROWS)
    try:
        notes = json.loads(_with(path, NOTES).read_text(encoding="utf-8"))
        count = int(notes["rows"])
        if rows_path.stat().st_size != count * math.prod(shape):
            return None
        os.utime(path.parent)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not count:
        return np.zeros((0, *shape), np.uint8), notes
    # Copy on write: PyTorch takes no array that cannot be written, and nobody changes the file.
    return np.memmap(rows_path, np.uint8, "c", shape=(count, *shape)), notes


def _make(path: Path, make: Maker, nbytes: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        raise OSError(f"{path.parent} has {free:,} bytes free, {nbytes:,} are needed")
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with partial.open("wb") as file:
            notes = make(file)
        partial.replace(_with(path, ROWS))
        partial.write_text(json.dumps(notes), encoding="utf-8")
        partial.replace(_with(path, NOTES))
    finally:
        partial.unlink(missing_ok=True)


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def taken(samples: NDArray[Any], indices: NDArray[np.int64]) -> NDArray[Any]:
    """Return the rows of an array at `indices`: copies; of mapped rows, in a mapped file beside.

    So what does not fit into memory need not fit when some of it is chosen.
    """
    if not isinstance(samples, np.memmap) or samples.filename is None:
        return samples[indices]
    source, shape = Path(samples.filename), samples.shape[1:]
    if not source.is_file() or samples.nbytes != source.stat().st_size:  # not all of a file
        return np.array(samples[indices])
    digest = hashlib.blake2b(digest_size=12)
    digest.update(repr((source.name, samples.shape)).encode())
    digest.update(np.ascontiguousarray(indices, dtype=np.int64).data)

    def make(file: BinaryIO) -> Notes:
        for chunk in chunks_of(len(indices)):
            file.write(np.ascontiguousarray(samples[indices[chunk]]).data)
        return {"rows": len(indices)}

    path = source.with_name(f"rows-{digest.hexdigest()}")
    return mapped_rows(path, shape, make, len(indices))[0]


def chunks_of(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Yield slices that cover `count` rows, so many at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def clear_unused(root: Path, current: Path) -> None:
    """Remove the other states of `current`'s data, and entries that nobody used for a month.

    ``root/DATA/STATE`` are the entries; `current` is one of them. Who has a file of a removed entry
    mapped keeps it.
    """
    for data in root.iterdir() if root.is_dir() else ():
        for state in data.iterdir() if data.is_dir() else ():
            with suppress(OSError):
                old = time.time() - state.stat().st_mtime > UNUSED
                if state != current and (old or data == current.parent):
                    shutil.rmtree(state, ignore_errors=True)
