"""Which checkpoints a folder keeps, and which of them is read."""

import shutil

import pytest
from checkpoint_bench import assert_same, checkpoint_of, file_of, folder_with

from feddag_flwr.checkpoints import (
    CheckpointError,
    CheckpointFolder,
    newest_checkpoint,
)


def test_the_last_ones_are_kept(tmp_path):
    folder = folder_with(tmp_path, *range(6), keep=2)
    assert folder.rounds() == [4, 5]
    assert folder.newest().server_round == 5
    assert newest_checkpoint(folder.path.parent).server_round == 5


def test_fewer_are_kept_from_the_next_write_on(tmp_path):
    folder = folder_with(tmp_path, 1, 2, 3, 4, keep=4)
    CheckpointFolder(folder.path, keep=1).write(checkpoint_of(5))
    assert folder.rounds() == [5]


def test_a_run_that_goes_on_from_an_older_one_forgets_the_later_ones(tmp_path):
    folder = folder_with(tmp_path, 2, 4, 6)
    folder.write(checkpoint_of(3))
    assert folder.rounds() == [2, 3]


def test_a_round_done_anew_replaces_its_damaged_checkpoint(tmp_path):
    folder = folder_with(tmp_path, 1, 2)
    file_of(folder, 2, "state.json").unlink()
    (file_of(folder, 2, "left-by-somebody")).write_text("x")
    again = checkpoint_of(2, notes={"again": 1})
    folder.write(again)
    assert_same(folder.newest(), again)
    assert not file_of(folder, 2, "left-by-somebody").exists()
    assert sorted(each.name for each in folder.path.iterdir()) == ["round-000001", "round-000002"]


def test_leftovers_go_at_the_next_write_and_are_never_read(tmp_path):
    folder = folder_with(tmp_path, 1)
    shutil.copytree(file_of(folder, 1, ""), folder.path / "round-000002.partial")
    shutil.copytree(file_of(folder, 1, ""), folder.path / "round-000001.old.partial")
    (folder.path / "notes of mine").mkdir()
    assert folder.rounds() == [1]
    assert folder.newest().server_round == 1
    folder.write(checkpoint_of(3))
    names = sorted(each.name for each in folder.path.iterdir())
    assert names == ["notes of mine", "round-000001", "round-000003"]


def test_no_checkpoint_at_all_names_the_folder(tmp_path):
    folder = CheckpointFolder(tmp_path / "nowhere", keep=1)
    assert folder.rounds() == []
    with pytest.raises(
        CheckpointError, match=r"no checkpoint in .*nowhere can be used: there is no"
    ):
        folder.newest()


def test_one_at_least_is_kept(tmp_path):
    with pytest.raises(ValueError, match="keep = 0"):
        CheckpointFolder(tmp_path, keep=0)
