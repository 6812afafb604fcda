"""Checkpoints share the files that did not change."""

import errno
import os

import numpy as np
from checkpoint_bench import (
    assert_same,
    checkpoint_of,
    file_of,
    flip,
    folder_with,
)

from feddag_flwr.checkpoints import (
    CheckpointFolder,
    disk,
)
from feddag_flwr.checkpoints import folder as folder_module


def inode(folder, server_round, path):
    return file_of(folder, server_round, path).stat().st_ino


def test_what_did_not_change_is_shared_but_never_with_the_one_before(tmp_path, monkeypatch):
    written = []
    original = disk.write_new
    monkeypatch.setattr(
        folder_module, "write_new", lambda at, c: written.append(at.name) or original(at, c)
    )
    still = {"still": {"x": np.arange(5.0)}}
    folder = CheckpointFolder(tmp_path, keep=4)
    for server_round in range(4):
        moving = {"moving": {"y": np.full(5, float(server_round))}}
        folder.write(checkpoint_of(server_round, arrays={**still, **moving}))
    path, other = "algorithm/still.safetensors", "algorithm/moving.safetensors"
    inodes = [inode(folder, each, path) for each in range(4)]
    assert inodes[0] == inodes[2] != inodes[1] == inodes[3]
    assert len({inode(folder, each, other) for each in range(4)}) == 4
    assert written.count("still.safetensors") == 2  # the first and its copy
    assert written.count("moving.safetensors") == 4
    for each in range(4):
        assert folder.read(each).algorithm.arrays["still"]["x"].tolist() == [0, 1, 2, 3, 4]


def test_damage_to_a_shared_file_leaves_the_one_before_whole(tmp_path):
    still = {"still": {"x": np.arange(50.0)}}
    folder = folder_with(tmp_path, 1, 2, 3, 4, arrays=still)
    flip(file_of(folder, 4, "algorithm/still.safetensors"))
    assert folder.newest().server_round == 3


def test_a_single_checkpoint_shares_with_the_one_that_it_replaces(tmp_path):
    still = {"still": {"x": np.arange(5.0)}}
    folder = folder_with(tmp_path, 1, keep=1, arrays=still)
    before = inode(folder, 1, "algorithm/still.safetensors")
    folder.write(checkpoint_of(2, arrays=still))
    assert inode(folder, 2, "algorithm/still.safetensors") == before


def test_equal_arrays_are_shared_after_a_restart_too(tmp_path):
    still = {"still": {"x": np.arange(5.0)}}
    folder = folder_with(tmp_path, 1, 2, arrays=still)
    again = CheckpointFolder(folder.path, keep=3)
    again.write(checkpoint_of(3, arrays=again.newest().algorithm.arrays))
    path = "algorithm/still.safetensors"
    assert inode(folder, 3, path) == inode(folder, 1, path)


def test_an_array_that_is_changed_in_place_is_written_anew(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    array = np.zeros(3, dtype=np.int64)
    for server_round in range(5):
        array[:] = server_round
        folder.write(checkpoint_of(server_round, arrays={"g": {"x": array}}))
    assert folder.newest().algorithm.arrays["g"]["x"].tolist() == [4, 4, 4]


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(disk.os, "link", refuse)
    still = {"still": {"x": np.arange(5.0)}}
    folder = folder_with(tmp_path, 1, 2, 3, arrays=still)
    path = "algorithm/still.safetensors"
    assert len({inode(folder, each, path) for each in (1, 2, 3)}) == 3
    assert_same(folder.newest(), checkpoint_of(3, arrays=still))


def test_a_truncated_older_file_is_not_shared(tmp_path):
    still = {"still": {"x": np.arange(50.0)}}
    folder = folder_with(tmp_path, 1, 2, arrays=still)
    os.truncate(file_of(folder, 1, "algorithm/still.safetensors"), 10)
    folder.write(checkpoint_of(3, arrays=still))
    assert_same(folder.newest(), checkpoint_of(3, arrays=still))
