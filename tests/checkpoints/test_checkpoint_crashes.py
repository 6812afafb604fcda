"""A process that dies and a disk that fails cost the new checkpoint alone."""

import errno
import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoint_bench import (
    MODEL,
    checkpoint_of,
    folder_with,
)

from feddag_flwr.checkpoints import (
    CheckpointFolder,
    CheckpointWriteError,
    disk,
)
from feddag_flwr.checkpoints import folder as folder_module


def write_for_ever(folder, started):
    """Write a checkpoint after the other, a growing array in each, until somebody ends it."""
    still = np.arange(2000.0)
    for server_round in itertools.count(1):
        arrays = {"still": {"x": still}, "moving": {"y": np.full(20_000, float(server_round))}}
        folder.write(checkpoint_of(server_round, arrays=arrays))
        os.write(started, b".")


def test_a_process_killed_at_any_moment_leaves_its_last_checkpoint(tmp_path):
    delays = np.random.default_rng(5).uniform(0, 0.03, 12)
    torn = 0
    for attempt, delay in enumerate(delays):
        folder = CheckpointFolder(tmp_path / str(attempt), keep=2)
        done, started = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(folder, started)
            finally:
                os._exit(1)
        assert os.read(done, 1) == b"."
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(started)
        finished = 1 + len(os.read(done, 65_536))
        os.close(done)
        found = folder.newest()
        assert found.server_round in {finished, finished + 1}
        assert (found.algorithm.arrays["moving"]["y"] == found.server_round).all()
        torn += len(list(folder.path.glob("*.partial")))
        folder.write(checkpoint_of(found.server_round + 1))
        assert not list(folder.path.glob("*.partial"))
        assert folder.newest().server_round == found.server_round + 1
    assert torn, "no kill came while a checkpoint was being written"


@pytest.mark.parametrize("writes", range(5))
def test_a_full_disk_costs_the_new_checkpoint_alone(tmp_path, monkeypatch, writes):
    folder = folder_with(tmp_path, 1, 2, keep=2, arrays={"g": {"x": np.arange(9.0)}})
    left = iter(range(writes))
    original = disk.write_new

    def write(path, content):
        if next(left, None) is None:
            path.write_bytes(content[:7])
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, content)

    monkeypatch.setattr(folder_module, "write_new", write)
    with pytest.raises(CheckpointWriteError, match=r"round-000003 could not be written: No space"):
        folder.write(checkpoint_of(3, arrays={"g": {"x": np.arange(8.0)}}, run={"new": 1}))
    assert sorted(each.name for each in folder.path.iterdir()) == ["round-000001", "round-000002"]
    monkeypatch.undo()
    assert folder.newest().server_round == 2
    folder.write(checkpoint_of(4))
    assert folder.rounds() == [2, 4]


@pytest.mark.parametrize(("function", "left"), [("sync_all", [1]), ("sync", [1, 2])])
def test_a_disk_that_cannot_be_synced_leaves_nothing_half_made(
    tmp_path, monkeypatch, function, left
):
    folder = folder_with(tmp_path, 1)

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(folder_module, function, refuse)
    with pytest.raises(CheckpointWriteError, match="round-000002 could not be written: Input/outp"):
        folder.write(checkpoint_of(2))
    assert folder.rounds() == left
    assert folder.newest().server_round == left[-1]
    assert not list(folder.path.glob("*.partial"))


def test_an_interrupt_while_writing_leaves_nothing_half_made(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, 1)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "write_new", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write(checkpoint_of(2))
    assert [each.name for each in folder.path.iterdir()] == ["round-000001"]


def test_files_are_synced_before_their_folder_gets_its_name(tmp_path, monkeypatch):
    """What a power cut needs: contents, then names, then the final name."""
    events = []
    fsync, rename = os.fsync, type(tmp_path).rename

    def note_sync(handle):
        events.append(("sync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    def note_rename(path, target):
        events.append(("rename", str(target)))
        return rename(path, target)

    monkeypatch.setattr(disk.os, "fsync", note_sync)
    monkeypatch.setattr(type(tmp_path), "rename", note_rename)
    folder = folder_with(tmp_path, 1, arrays={"g": {"x": np.arange(3.0)}})
    partial = f"{folder.path}/round-000001.partial"
    renamed = events.index(("rename", f"{folder.path}/round-000001"))
    assert {path for _, path in events[:renamed]} == {
        f"{partial}/{name}" for name in
        ("state.json", "notes.json", "manifest.json", "models", "algorithm", MODEL,
         "algorithm/g.safetensors")
    } | {partial}  # fmt: skip
    assert events[renamed + 1] == ("sync", str(folder.path))
