"""What a run leaves behind, in a folder of its own.

========================  ==========================================================================
``settings.json``         all settings
``metrics.jsonl``         one line a round: metrics, who took part, bytes; equal for equal seeds
``seconds.jsonl``         one line a round: seconds by phase, aggregate being a part of train; kept
                          apart, for they never repeat
``proximity.npz``         client names, G, V where the fusion reads it, A and fusion weights
``clustering.json``       the alpha sweep, assignments, complementarity graph
``privacy.jsonl``         one line for each private profile that a client was asked for
``checkpoints/``          the last rounds: clients, models, the algorithm's state (see
                          `feddag_flwr.checkpoints`)
``summary.json``          the closing table; there once the run is over
``sessions.jsonl``        when the run was started, gone on with and ended, and with which versions
``report.html``           all of it as a page (see `feddag_flwr.report`); there once the run is over
========================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.settings import Settings, SettingsError

try:
    import fcntl
except ImportError:  # Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

logger = logging.getLogger("flwr")

SETTINGS, METRICS, SECONDS, SUMMARY, PROXIMITY, PRIVACY, SESSIONS, REPORT = (
    "settings.json", "metrics.jsonl", "seconds.jsonl", "summary.json", "proximity.npz",
    "privacy.jsonl", "sessions.jsonl", "report.html",
)  # fmt: skip


class RunFolderInUseError(RuntimeError):
    """Another process writes to the run's folder."""


class RunFolder:
    """Writes a run's files as they come to be; each appears whole or not at all.

    From `open` or `of_stopped_run` to `release`, or the end of the process, nobody else can resume
    the run. The settings ``run-dir`` / ``run-name`` say where: by default date, time and algorithm.
    A `FileExistsError` says that a run of that name has been there already.

    Attributes
    ----------
    path : Path
        The folder, once `open` has made it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent = Path(settings.run.run_dir).expanduser().resolve()
        self.path = self._parent / settings.run.run_name
        self._unwritten: dict[str, bytes] = {}
        self._held: int | None = None
        if settings.run.run_name and not settings.run.resume and self.path.exists():
            raise FileExistsError(_taken(self.path))

    def open(self) -> None:
        """Make the folder: once the federation has met, so that a failed start leaves none.

        Without a ``run-name`` the folder is the first free one of name, name-2, name-3, ..
        """
        self._parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        name = self._settings.run.run_name or f"{stamp}-{self._settings.run.algorithm}"
        for attempt in itertools.count(1):
            self.path = self._parent / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                self.path.mkdir(mode=0o700)  # models and names are for the run's owner
                break
            except FileExistsError:
                if self._settings.run.run_name:
                    raise FileExistsError(_taken(self.path)) from None
        self._hold()
        self.write_json(SETTINGS, self._settings.to_run_config())

    @classmethod
    def of_stopped_run(cls, settings: Settings) -> RunFolder:
        """Take hold of the folder that the setting ``resume`` names, before anything in it is read.

        Raises
        ------
        SettingsError
            It is no run folder.
        RunFolderInUseError
            The run is not stopped: its process lives.
        """
        folder = cls(settings)
        folder.path = resumed_path(settings)
        folder._hold()
        return folder

    def go_back(self, server_round: int) -> None:
        """Make the files what they were after a round.

        Lines of later rounds and torn ones go, and so do a closing table and a report: rounds are
        done anew from there on. ``settings.json`` becomes the settings of the run that goes on.
        """
        for name in (SUMMARY, REPORT):
            (self.path / name).unlink(missing_ok=True)
        for name in (METRICS, SECONDS):
            self._cut(name, server_round)
        self.write_json(SETTINGS, self._settings.to_run_config())

    def release(self) -> None:
        """Let others have the folder."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one JSON file."""
        text = json.dumps(values, indent=2, allow_nan=False)
        self._write(name, (text + "\n").encode())

    def try_to_write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one JSON file; a disk that is full costs a log line."""
        try:
            self.write_json(name, values)
        except OSError as error:
            logger.error("%s could not be written: %s", self.path / name, error.strerror)

    def append_line(self, name: str, values: Mapping[str, Any]) -> None:
        """Append one line to a JSON Lines file, on the disk when this returns.

        A line for which there is no room is written with the next one: a full disk costs no round.
        """
        line = json.dumps(values, allow_nan=False) + "\n"
        lines = self._unwritten.pop(name, b"") + line.encode()
        path = self.path / name
        try:
            _append(path, lines)
        except OSError as error:
            logger.error("%s: a line waits for the next round: %s", path, error.strerror)
            self._unwritten[name] = lines

    def append_now(self, name: str, values: Mapping[str, Any]) -> None:
        """Append one line to a JSON Lines file, on the disk when this returns; else an OSError."""
        _append(self.path / name, (json.dumps(values, allow_nan=False) + "\n").encode())

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a compressed ``.npz`` file, free of pickled objects."""
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **dict(arrays))
        self._write(name, content.getvalue())

    def _hold(self) -> None:
        """Lock the folder, until the process ends at the latest."""
        if not HAS_LOCKS:
            logger.info("%s cannot be locked: this system has no such locks", self.path)
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise RunFolderInUseError(
                f"{self.path} belongs to a run that goes on: end its process before you resume it"
            ) from None
        except OSError as error:  # some network file systems have no locks
            logger.info("%s cannot be locked: %s", self.path, error.strerror)
        self._held = handle

    def _write(self, name: str, content: bytes) -> None:
        partial = self.path / f"{name}.partial"
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path / name)

    def _cut(self, name: str, server_round: int) -> None:
        """Keep the lines of the rounds done; say which of these are missing."""
        path = self.path / name
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = {number: line for line in lines if (number := _round_of(line)) is not None}
        kept = {number: kept[number] for number in sorted(kept) if number <= server_round}
        lost = sorted(set(range(server_round + 1)) - kept.keys())
        if lost and name == METRICS:
            logger.warning("%s has no line of round %s", path, ", ".join(map(str, lost)))
        self._write(name, b"".join(kept.values()))


def resumed_path(settings: Settings) -> Path:
    """Return the folder that the setting ``resume`` names; `SettingsError` if it is of no run."""
    path = Path(settings.run.resume).expanduser().resolve()
    if not (path / SETTINGS).is_file():
        raise SettingsError(f"setting resume = {settings.run.resume!r}: {path} is no run folder")
    return path


def _append(path: Path, content: bytes) -> None:
    """Append to a file all of it or nothing, and wait until the disk has it."""
    with path.open("ab", buffering=0) as stream:
        size = stream.tell()
        try:
            if stream.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                stream.truncate(size)
            raise


def _round_of(line: bytes) -> int | None:
    """Round of a line; None for a torn one."""
    try:
        number = json.loads(line)["round"] if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError):
        return None
    return number if isinstance(number, int) else None


def _taken(path: Path) -> str:
    return f"setting run-name = {path.name!r}: {path} exists already"
