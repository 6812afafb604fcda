"""A folder of its own for the processes of one caller, cleared away however the caller ends."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feddag_flwr.flower.processes import end_processes

PREFIX = "feddag-"
OWNER = "owner"
WATCHER_SECONDS = 30.0
# Ray appends up to 75 characters to its directory for a socket whose path may have 107.
LONGEST_TEMPORARY_FOLDER = 16
NOT_POSIX = (
    "processes of Flower are run on Linux and macOS only; on Windows use its Linux subsystem, WSL 2"
)


@contextmanager
def private_home() -> Iterator[Path]:
    """Give a caller a folder of its own; on leaving, end its processes and remove the folder.

    It is ``FLWR_HOME`` of its processes, or where each of them has its own. A watcher does the same
    when the caller is killed; where the watcher was killed as well, the next caller does.
    """
    require_posix()
    base = _base()
    clear_stale(base)
    home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    owned = _own(home)
    watcher = _watch(home)
    try:
        yield home
    finally:
        with _uninterrupted():
            clear(home)
            _dismiss(watcher)
            os.close(owned)


def require_posix() -> None:
    """Refuse a system without process sessions by a `RuntimeError` in one sentence."""
    if not hasattr(os, "getsid"):
        raise RuntimeError(NOT_POSIX)


def clear(home: Path) -> None:
    """End every process of a private folder and remove the folder."""
    end_processes(home)
    shutil.rmtree(home, ignore_errors=True)


def clear_stale(base: Path) -> None:
    """Clear the private folders in `base` that this user's killed callers left behind."""
    for home in base.glob(f"{PREFIX}*"):
        try:
            if (home / OWNER).stat().st_uid != os.getuid():
                continue
            handle = os.open(home / OWNER, os.O_RDWR)
        except OSError:  # nobody's private folder, or just cleared
            continue
        try:
            if _lock(handle):
                clear(home)
        finally:
            os.close(handle)


def _base() -> Path:
    base = Path(tempfile.gettempdir())
    # A folder of this user's alone is made in it, by mkdtemp.
    short = Path("/tmp")  # noqa: S108
    return (
        short if len(str(base)) > LONGEST_TEMPORARY_FOLDER and os.access(short, os.W_OK) else base
    )


def _own(home: Path) -> int:
    """Mark a folder as in use until this process ends; nobody sees the mark before it is locked."""
    marked = home / f"{OWNER}.new"
    handle = os.open(marked, os.O_RDWR | os.O_CREAT, 0o600)
    _lock(handle)
    marked.rename(home / OWNER)
    return handle


def _lock(handle: int) -> bool:
    import fcntl  # not on Windows

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _watch(home: Path) -> subprocess.Popen[bytes]:
    """Start a process that clears the folder when this one ends: its input ends then."""
    return subprocess.Popen(
        [sys.executable, "-m", "feddag_flwr.flower.watcher", str(home)],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _dismiss(watcher: subprocess.Popen[bytes]) -> None:
    assert watcher.stdin is not None
    watcher.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        watcher.wait(WATCHER_SECONDS)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore requests to stop while the end is being made."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
