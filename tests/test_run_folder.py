"""A run folder that is opened again, and one on a full disk."""

import errno
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from feddag_flwr import run_folder
from feddag_flwr.run_folder import RunFolder, RunFolderInUseError
from feddag_flwr.settings import Settings, SettingsError


def settings_of(tmp_path, **changes):
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return Settings.from_run_config({"run-dir": str(tmp_path), "run-name": "run", **named})


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(settings_of(tmp_path))
    made.open()
    for number in range(5):
        made.append_line("metrics.jsonl", {"round": number, "accuracy": number / 7})
        made.append_line("seconds.jsonl", {"round": number, "train": 0.5})
    return made


def rounds_of(path):
    return [json.loads(line)["round"] for line in path.read_text().splitlines()]


def resume(folder, server_round, **changes):
    folder.release()
    settings = settings_of(folder.path.parent, resume=str(folder.path), **changes)
    again = RunFolder.of_stopped_run(settings)
    again.go_back(server_round)
    return again


def test_lines_of_later_rounds_go_and_the_others_stay_to_the_byte(folder):
    before = (folder.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    again = resume(folder, 2, num_rounds=8)
    assert again.path == folder.path
    assert (folder.path / "metrics.jsonl").read_bytes() == b"".join(before[:3])
    assert rounds_of(folder.path / "seconds.jsonl") == [0, 1, 2]
    again.append_line("metrics.jsonl", {"round": 3})
    assert rounds_of(folder.path / "metrics.jsonl") == [0, 1, 2, 3]
    stored = json.loads((folder.path / "settings.json").read_text())
    assert stored["num-rounds"] == 8


@pytest.mark.parametrize(
    "tail", [b'{"round": 3, "accur', b'{"round": 2}', b"\x00\x00\x00\n", b"7\n"]
)
def test_a_torn_line_goes(folder, tail):
    with (folder.path / "metrics.jsonl").open("ab") as stream:
        stream.write(tail)
    resume(folder, 4)
    assert rounds_of(folder.path / "metrics.jsonl") == [0, 1, 2, 3, 4]


def test_a_missing_line_is_told(folder, caplog):
    lines = (folder.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (folder.path / "metrics.jsonl").write_bytes(b"".join([*lines[:2], *lines[3:]]))
    resume(folder, 3)
    assert rounds_of(folder.path / "metrics.jsonl") == [0, 1, 3]
    assert "metrics.jsonl has no line of round 2" in caplog.text


def test_a_closing_table_and_a_report_are_such_no_longer(folder):
    folder.write_json("summary.json", {"done": 1})
    (folder.path / "report.html").write_text("done")
    resume(folder, 4)
    assert not (folder.path / "summary.json").exists()
    assert not (folder.path / "report.html").exists()


def test_a_run_that_lives_cannot_be_resumed(folder):
    before = (folder.path / "metrics.jsonl").read_bytes()
    settings = settings_of(folder.path.parent, resume=str(folder.path))
    with pytest.raises(RunFolderInUseError, match="belongs to a run that goes on"):
        RunFolder.of_stopped_run(settings)
    assert (folder.path / "metrics.jsonl").read_bytes() == before
    folder.release()
    folder.release()
    again = RunFolder.of_stopped_run(settings)
    with pytest.raises(RunFolderInUseError):
        RunFolder.of_stopped_run(settings)
    again.release()


def test_the_end_of_a_process_frees_its_run(folder):
    folder.release()
    settings = settings_of(folder.path.parent, resume=str(folder.path))
    done, ready = os.pipe()
    child = os.fork()
    if child == 0:
        RunFolder.of_stopped_run(settings)
        os.write(ready, b".")
        time.sleep(60)
        os._exit(1)
    assert os.read(done, 1) == b"."
    with pytest.raises(RunFolderInUseError):
        RunFolder.of_stopped_run(settings)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    RunFolder.of_stopped_run(settings).release()
    os.close(done)
    os.close(ready)


def test_a_file_system_without_locks_is_no_obstacle(folder, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_folder.fcntl, "flock", refuse)
    resume(folder, 2).release()


def test_what_is_no_run_folder_is_named(tmp_path):
    settings = settings_of(tmp_path, resume=str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match=r"setting resume = '.*nothing': .* is no run folder"):
        RunFolder.of_stopped_run(settings)


def test_arrays_and_json_are_whole_or_absent(folder, monkeypatch):
    folder.write_json("clustering.json", {"threshold": 0.5})
    folder.write_arrays("proximity.npz", {"x": np.arange(3), "names": np.array(["a", "bc"])})

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder.os, "fsync", fail)
    for write in (
        lambda: folder.write_json("clustering.json", {"threshold": 0.7}),
        lambda: folder.write_arrays("proximity.npz", {"x": np.arange(4)}),
    ):
        with pytest.raises(OSError, match="No space"):
            write()
    assert json.loads((folder.path / "clustering.json").read_text()) == {"threshold": 0.5}
    with np.load(folder.path / "proximity.npz", allow_pickle=False) as arrays:
        assert arrays["x"].tolist() == [0, 1, 2]
        assert arrays["names"].tolist() == ["a", "bc"]


def test_lines_wait_while_the_disk_is_full(folder, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder.os, "fsync", fail)
    folder.append_line("metrics.jsonl", {"round": 5})
    folder.append_line("metrics.jsonl", {"round": 6})
    assert rounds_of(folder.path / "metrics.jsonl") == [0, 1, 2, 3, 4]
    assert "metrics.jsonl: a line waits for the next round: No space left on device" in caplog.text
    monkeypatch.undo()
    folder.append_line("metrics.jsonl", {"round": 7})
    assert rounds_of(folder.path / "metrics.jsonl") == [0, 1, 2, 3, 4, 5, 6, 7]
    assert not folder._unwritten


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_real_full_device_costs_no_round(folder, caplog):
    (folder.path / "full.jsonl").symlink_to("/dev/full")
    folder.append_line("full.jsonl", {"round": 1})
    assert "a line waits for the next round: No space left on device" in caplog.text
