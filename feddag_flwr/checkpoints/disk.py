"""Files and folders that are on the disk when a call returns, and not before it is right."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it."""
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk has a folder's names."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot, and need not
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def link_synced(old: Path, new: Path) -> bool:
    """Give a file a second name.

    Returns
    -------
    bool
        False where the file system cannot, or the file is not there.
    """
    try:
        os.link(old, new)
    except OSError:
        return False
    return True


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; one that is not there is no error."""
    shutil.rmtree(folder, ignore_errors=True)
