"""The folder of a run's checkpoints.

===============================================  ===================================================
``round-000012/state.json``                      clients, assignments, teachers
``round-000012/models/cluster-000.safetensors``  a cluster's model, ``<part>.<kind>``
``round-000012/memory/<group>.safetensors``      what the algorithm keeps beside
``round-000012/notes.json``                      settings, notes of the run and of the algorithm
``round-000012/manifest.json``                   size and SHA-256 of each of these files
``round-000013.partial/``                        one being written, or left by a process that died
===============================================  ===================================================
"""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from feddag_flwr.checkpoints.array_files import Arrays, arrays_to_bytes
from feddag_flwr.checkpoints.checkpoint import Checkpoint
from feddag_flwr.checkpoints.contents import arrays_of, checkpoint_of, groups_of, texts_of
from feddag_flwr.checkpoints.disk import link, remove_folder, sync, sync_all, write_new
from feddag_flwr.checkpoints.errors import CheckpointError, CheckpointWriteError, DamagedError
from feddag_flwr.checkpoints.manifest import MANIFEST, FileSum, Manifest

logger = logging.getLogger("flwr")

CHECKPOINTS = "checkpoints"
PARTIAL = ".partial"
_FINISHED = re.compile(r"round-(\d{6,})")


class _Written(NamedTuple):
    """The arrays that a file was made of, not kept alive, and what came of them."""

    arrays: dict[str, weakref.ref[NDArray[Any]]]
    sums: FileSum

    def is_of(self, arrays: Arrays) -> bool:
        """Whether these are the very same arrays."""
        return self.arrays.keys() == arrays.keys() and all(
            self.arrays[name]() is values for name, values in arrays.items()
        )


class _Older(NamedTuple):
    """A finished checkpoint whose unchanged files can be shared."""

    folder: Path
    manifest: Manifest


class CheckpointFolder:
    """Writes and finds the checkpoints of one run.

    A checkpoint is written beside the others and gets its name once all of it is on the disk, so
    that a process that dies leaves the one before. Files that have not changed are hard links; but
    the newest checkpoint and the one before it never share a file (unless only one is kept), so
    that whatever happens to a file of the newest, the one before is whole.

    Parameters
    ----------
    path : Path
        The folder; made when the first checkpoint is written.
    keep : int
        Checkpoints that are kept, 1 at least.
    """

    def __init__(self, path: Path, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep = {keep}: one checkpoint at least must be kept")
        self.path = path
        self.keep = keep
        self._written: dict[str, _Written] = {}

    def rounds(self) -> list[int]:
        """Return the rounds that have a checkpoint, ascending, whether usable or not."""
        if not self.path.is_dir():
            return []
        matches = (_FINISHED.fullmatch(each.name) for each in self.path.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove those that are too old, and any of later rounds.

        The arrays of `checkpoint` become read-only.

        Raises
        ------
        CheckpointWriteError
            The disk is full, or the like; this checkpoint is not there, or whole, and the others
            are as they were.
        TypeError
            AlgorithmState or notes hold what a checkpoint cannot keep.
        """
        final = self._folder(checkpoint.server_round)
        partial = final.with_name(final.name + PARTIAL)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            self._fill(partial, checkpoint)
            self._publish(partial, final)
        except OSError as error:
            remove_folder(partial)
            raise CheckpointWriteError(
                f"checkpoint {final} could not be written: {error.strerror or error}"
            ) from error
        except BaseException:
            remove_folder(partial)
            raise
        rounds = self.rounds()
        done = [each for each in rounds if each <= checkpoint.server_round]
        self._discard([*rounds[len(done) :], *done[: -self.keep]])

    def _fill(self, partial: Path, checkpoint: Checkpoint) -> None:
        """Write all files of a checkpoint, the manifest last."""
        older = self._older(checkpoint.server_round)
        for folder in (partial, partial / "models", partial / "memory"):
            folder.mkdir()
        sums = {}
        for path, content in texts_of(checkpoint).items():
            write_new(partial / path, content)
            sums[path] = FileSum.of(content)
        written = {}
        for path, arrays in arrays_of(checkpoint).items():
            sums[path] = self._write_arrays(partial, path, arrays, older)
            references = {name: weakref.ref(values) for name, values in arrays.items()}
            written[path] = _Written(references, sums[path])
        manifest = Manifest(checkpoint.server_round, sums, groups_of(checkpoint))
        write_new(partial / MANIFEST, manifest.to_bytes())
        sync_all([partial, *partial.rglob("*")])
        self._written = written

    def _write_arrays(
        self, partial: Path, path: str, arrays: Arrays, older: _Older | None
    ) -> FileSum:
        """Link a file of arrays to the older one if it is the same, else write it."""
        content, known = None, self._written.get(path)
        if known is not None and known.is_of(arrays):
            sums = known.sums
        else:
            for values in arrays.values():
                values.flags.writeable = False  # else `is_of` could not be believed
            content = arrays_to_bytes(arrays)
            sums = FileSum.of(content)
        if older is not None and _link(older, path, partial / path, sums):
            return sums
        write_new(partial / path, arrays_to_bytes(arrays) if content is None else content)
        return sums

    def _older(self, server_round: int) -> _Older | None:
        """Return the checkpoint to share files with: the newest but one, or the only one kept."""
        before = [each for each in self.rounds() if each < server_round]
        place = min(self.keep, 2)
        if len(before) < place:
            return None
        folder = self._folder(before[-place])
        try:
            return _Older(folder, Manifest.load(folder, before[-place]))
        except DamagedError:
            return None

    def _publish(self, partial: Path, final: Path) -> None:
        """Give a checkpoint its name, in place of a damaged one of the same round."""
        replaced = final.with_name(f"{final.name}.old{PARTIAL}")
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        sync(self.path)
        remove_folder(replaced)

    def _remove_leftovers(self) -> None:
        for each in self.path.glob(f"round-*{PARTIAL}"):
            remove_folder(each)

    def _discard(self, rounds: Iterable[int]) -> None:
        """Remove checkpoints, each by another name, so that none is ever found half gone."""
        for each in rounds:
            folder = self._folder(each)
            going = folder.with_name(folder.name + PARTIAL)
            try:
                folder.rename(going)
            except OSError as error:
                logger.warning("old checkpoint %s stays: %s", folder, error.strerror)
            remove_folder(going)

    # -- reading -----------------------------------------------------------------------------------

    def newest(self) -> Checkpoint:
        """Read the newest checkpoint that is whole; each that is not costs a log line.

        Raises
        ------
        CheckpointError
            There is none; names the folder, and what is wrong with the newest.
        """
        reasons = []
        for server_round in reversed(self.rounds()):
            try:
                return self._read(server_round)
            except DamagedError as error:
                logger.warning("checkpoint %s is not used: %s", self._folder(server_round), error)
                reasons.append(str(error))
        why = "there is none"
        if reasons:
            why = f"none of {len(reasons)}, see the log; the newest: {reasons[0]}"
        raise CheckpointError(f"no checkpoint in {self.path} can be used: {why}")

    def _read(self, server_round: int) -> Checkpoint:
        folder = self._folder(server_round)
        manifest = Manifest.load(folder, server_round)
        return checkpoint_of(
            server_round,
            manifest.groups,
            lambda path: manifest.read(folder, path),
            manifest.checksum,
        )

    def _folder(self, server_round: int) -> Path:
        return self.path / f"round-{server_round:06d}"


def newest_checkpoint(run_folder: Path) -> Checkpoint:
    """Read the newest whole checkpoint of a run.

    Parameters
    ----------
    run_folder : Path
        The run's folder.

    Raises
    ------
    CheckpointError
        There is none; names the folder.
    """
    return CheckpointFolder(run_folder / CHECKPOINTS, keep=1).newest()


def _link(older: _Older, path: str, new: Path, sums: FileSum) -> bool:
    """Link or copy a file of an older checkpoint, if it is the same and still whole in size."""
    old = older.folder / path
    if older.manifest.files.get(path) != sums or not old.is_file():
        return False
    return old.stat().st_size == sums.size and link(old, new)
