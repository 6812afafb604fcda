"""A disk of a few megabytes that can be filled (Linux, as root)."""

import errno
import subprocess
from contextlib import contextmanager, suppress

MEGABYTES = 32


@contextmanager
def mounted(folder):
    """Mount a small disk on a new folder; False where this machine does not let us."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        yes = subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        yes = False
    try:
        yield yes
    finally:
        if yes:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(path):
    """Write a file until nothing more fits on its disk."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while stream.write(b"\0" * size):
                    pass
    with path.with_name("probe").open("wb", buffering=0) as stream:
        try:
            stream.write(b"\0")
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return
    raise AssertionError("the disk is not full")
