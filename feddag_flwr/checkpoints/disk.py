"""Files and folders that are on the disk before anything is called done."""

import errno
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Files that the disk is asked for at once: a file system commits those together.
AT_ONCE = 8


def write_new(path: Path, content: bytes) -> None:
    """Write a new file, which is on the disk once it has been synced."""
    with path.open("xb") as stream:
        stream.write(content)


def sync_all(paths: Iterable[Path]) -> None:
    """Wait until the disk has the contents of files, and the names in folders."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(sync, paths):
            pass


def sync(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot, and need not
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def link(old: Path, new: Path, size: int) -> bool:
    """Give a file of that size a second name; say whether that could be done."""
    try:
        if old.stat().st_size != size:
            return False
        os.link(old, new)
    except OSError:
        return False
    return True
