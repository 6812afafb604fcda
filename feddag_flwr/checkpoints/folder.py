"""The folder of a run's checkpoints.

==================================================  ================================================
``round-000012/state.json``                         clients, assignments, layout of the models
``round-000012/models/cluster-000.safetensors``     a cluster's model, a PyTorch state dict
``round-000012/models/client-<name>.safetensors``   a client's own model, where there is one
``round-000012/algorithm/<group>.safetensors``      what the algorithm keeps beside
``round-000012/notes.json``                         settings, notes of the run and of the algorithm
``round-000012/manifest.json``                      SHA-256 of each of these files
``round-000013.partial/``                           one being written, or left by a dead process
==================================================  ================================================
"""

import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from feddag_flwr.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointWriteError,
    DamagedError,
)
from feddag_flwr.checkpoints.disk import link, sync, sync_all, write_new
from feddag_flwr.checkpoints.files import FOLDERS, decode, encode
from feddag_flwr.checkpoints.manifest import MANIFEST, Manifest, sha256

logger = logging.getLogger("flwr")

CHECKPOINTS = "checkpoints"
PARTIAL = ".partial"
_FINISHED = re.compile(r"round-(\d{6,})")


class CheckpointFolder:
    """Writes and finds the checkpoints of one run.

    A checkpoint is written beside the others and gets its name once all of it is on the disk, so
    that a process that dies leaves the one before. Files that have not changed are hard links; but
    the newest checkpoint and the one before it never share a file (unless only one is kept), so
    that whatever happens to a file of the newest, the one before is whole. `keep`, 1 at least, is
    how many are kept.
    """

    def __init__(self, path: Path, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep = {keep}: one checkpoint at least must be kept")
        self.path = path
        self.keep = keep

    def rounds(self) -> list[int]:
        """Return the rounds that have a checkpoint, ascending, whether usable or not."""
        if not self.path.is_dir():
            return []
        matches = (_FINISHED.fullmatch(path.name) for path in self.path.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    # -- writing -----------------------------------------------------------------------------------

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove those that are too old, and any of later rounds.

        Raises
        ------
        CheckpointWriteError
            The disk is full, or the like; this checkpoint is not there, or whole, and the others
            are as they were.
        TypeError
            The algorithm's state or notes hold what a checkpoint cannot keep.
        """
        final = self._folder(checkpoint.server_round)
        partial = final.with_name(final.name + PARTIAL)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.glob(f"round-*{PARTIAL}"):
                _remove(leftover)
            self._fill(partial, checkpoint)
            self._publish(partial, final)
        except OSError as error:
            raise CheckpointWriteError(
                f"checkpoint {final} could not be written: {error.strerror or error}"
            ) from error
        finally:
            _remove(partial)
        rounds = self.rounds()
        done = [number for number in rounds if number <= checkpoint.server_round]
        self._discard([*rounds[len(done) :], *done[: -self.keep]])

    def _fill(self, partial: Path, checkpoint: Checkpoint) -> None:
        """Write all files of a checkpoint, the manifest last; link those that are there already."""
        for folder in (partial, *(partial / name for name in FOLDERS)):
            folder.mkdir()
        older, listed = self._older(checkpoint.server_round)
        sums = {}
        for path, content in encode(checkpoint):
            sums[path] = sha256(content)
            same = listed.get(path) == sums[path]
            if not (same and link(older / path, partial / path, len(content))):
                write_new(partial / path, content)
        write_new(partial / MANIFEST, Manifest(checkpoint.server_round, sums).to_bytes())
        sync_all([partial, *partial.rglob("*")])

    def _older(self, server_round: int) -> tuple[Path, dict[str, str]]:
        """Return the checkpoint to share files with: the newest but one, or the only one kept."""
        before = [number for number in self.rounds() if number < server_round]
        place = min(self.keep, 2)
        if len(before) < place:
            return self.path, {}
        folder = self._folder(before[-place])
        try:
            return folder, Manifest.load(folder, before[-place]).files
        except DamagedError:
            return folder, {}

    def _publish(self, partial: Path, final: Path) -> None:
        """Give a checkpoint its name, in place of a damaged one of the same round."""
        replaced = final.with_name(f"{final.name}.old{PARTIAL}")
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        sync(self.path)
        _remove(replaced)

    def _discard(self, rounds: Iterable[int]) -> None:
        """Remove checkpoints, each by another name, so that none is ever found half gone."""
        for folder in map(self._folder, rounds):
            going = folder.with_name(folder.name + PARTIAL)
            try:
                folder.rename(going)
            except OSError as error:
                logger.warning("old checkpoint %s stays: %s", folder, error.strerror)
            _remove(going)

    # -- reading -----------------------------------------------------------------------------------

    def newest(self) -> Checkpoint:
        """Read the newest checkpoint that is whole; each that is not costs a log line.

        `CheckpointError` where there is none; names the folder, and what is wrong with the newest.
        """
        reasons = []
        for server_round in reversed(self.rounds()):
            try:
                return self.read(server_round)
            except DamagedError as error:
                logger.warning("checkpoint %s is not used: %s", self._folder(server_round), error)
                reasons.append(str(error))
        why = "there is none"
        if reasons:
            why = f"none of {len(reasons)}, see the log; the newest: {reasons[0]}"
        raise CheckpointError(f"no checkpoint in {self.path} can be used: {why}")

    def read(self, server_round: int) -> Checkpoint:
        """Read the checkpoint of a round; a `CheckpointError` names the file that is damaged."""
        folder = self._folder(server_round)
        manifest = Manifest.load(folder, server_round)
        return decode(server_round, lambda path: manifest.read(folder, path), manifest.checksum)

    def _folder(self, server_round: int) -> Path:
        return self.path / f"round-{server_round:06d}"


def newest_checkpoint(run_folder: Path) -> Checkpoint:
    """Read the newest whole checkpoint of a run.

    Parameters
    ----------
    run_folder : Path

    Raises
    ------
    CheckpointError
        There is none; names the folder.
    """
    return CheckpointFolder(run_folder / CHECKPOINTS, keep=1).newest()


def _remove(folder: Path) -> None:
    """Remove a folder and all in it; one that is not there is no error."""
    shutil.rmtree(folder, ignore_errors=True)
