"""The runner's small parts: time left, the machine's cores, memory and GPUs, what is shown."""

import io
import os
import subprocess

import pytest
from rich.console import Console

from feddag_flwr.settings import Settings
from feddag_lab.experiments import machine
from feddag_lab.experiments.layout import TrialRecord
from feddag_lab.experiments.progress import Board, Forecast, duration
from feddag_lab.experiments.runner import provenance
from feddag_lab.experiments.trials import Trial

# --- time left ---


def test_time_left_counts_each_algorithm_at_its_own_pace():
    forecast = Forecast()
    assert forecast.left(["A"], [], 2) is None
    forecast.learn("A", 10.0)
    forecast.learn("A", 20.0)
    forecast.learn("B", 100.0)

    assert forecast.left(["A"], [], 1) == 15.0
    assert forecast.left(["unknown"], [], 1) == 57.5  # the mean of 15 and 100
    # two A and one B wait; an A is 5 s, a B 40 s under way: 30 + 100 + 10 + 60 over 4 workers
    waiting, running = ["A", "A", "B"], [("A", 5.0), ("B", 40.0)]
    assert forecast.left(waiting, running, 4) == pytest.approx(60.0)  # the B under way is longest
    assert forecast.left(waiting, running, 2) == pytest.approx(100.0)
    assert forecast.left([], [("A", 99.0)], 2) == 0.0


def test_trials_of_an_earlier_attempt_teach_it():
    records = [
        TrialRecord(algorithm=name, scenario="S", seed=1, status="finished", seconds=seconds)
        for name, seconds in (("A", 4), ("A", 6.0), ("B", None))
    ]
    assert Forecast(records).left(["A", "B"], [], 1) == 10.0


def test_durations_are_written_for_people():
    assert [duration(seconds) for seconds in (0.4, 89.4, 90, 5300, 5400, 7500)] == [
        "0 s", "89 s", "2 min", "88 min", "1 h 30 min", "2 h 05 min"
    ]  # fmt: skip


# --- the machine ---


def test_a_container_s_limits_count(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    everything = machine.available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("0\n")
    assert machine.available_memory() == pytest.approx(everything, rel=0.2)
    (tmp_path / "memory.max").write_text(f"{100 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{40 * 2**20}\n")
    assert machine.available_memory() == 60.0


def test_a_worker_has_room_if_those_at_work_may_still_grow(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 2000.0)
    monkeypatch.setattr(machine, "_resident", lambda pid: {1: 300.0, 2: 2000.0}[pid])
    # 1.1 * 1000 for the new one, and 1100 - 300 for the first of those at work
    assert machine.has_room([1, 2], 1000.0)
    monkeypatch.setattr(machine, "available_memory", lambda: 1899.0)
    assert not machine.has_room([1, 2], 1000.0)
    assert not machine.has_room([1], None)
    assert machine.has_room([], None)


def test_a_process_that_is_gone_takes_no_memory():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert machine._resident(gone.pid) == 0.0
    assert machine._resident(os.getpid()) > 10.0


def test_workers_take_gpus_by_turns(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    gpus = machine.visible_gpus()
    assert gpus == ["2", "5"]
    environments = [machine.worker_environment(number, 3, gpus) for number in range(3)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments] == ["2", "5", "2"]
    assert environments[0]["OMP_NUM_THREADS"] == environments[0]["OPENBLAS_NUM_THREADS"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert machine.visible_gpus() == []
    assert "CUDA_VISIBLE_DEVICES" not in machine.worker_environment(0, 1, [])


def test_gpus_are_counted_by_nvidia_s_tool(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.visible_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: X (UUID: a)'\necho 'GPU 1: X (UUID: b)'\n")
    tool.chmod(0o755)
    assert machine.visible_gpus() == ["0", "1"]


def test_the_version_is_told():
    assert provenance()["version"]


# --- what is shown ---


def made_up(algorithm):
    return Trial(algorithm, "S", 1, Settings.from_run_config({"run-name": f"s--{algorithm}"}))


def show(*, terminal):
    first, second = made_up("A"), made_up("B")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100)
    board = Board([first, second], done=3, workers=2, forecast=Forecast(), console=console)
    with board:
        board.started(first)
        board.started(second)
        board.ended(first, None, 12.0, 0.875)
        board.ended(second, "OSError: disk full", 1.0, None)
    return stream.getvalue()


def test_away_from_a_terminal_each_trial_is_a_line():
    assert show(terminal=False).splitlines() == [
        "4/5 |  87.50 % | A / S / seed 1 | 12 s | 12 s left",
        "5/5 | FAILED   | B / S / seed 1 | 1 s | 0 s left, 1 failed | OSError: disk full",
    ]


def test_at_a_terminal_there_is_a_board_as_well():
    shown = show(terminal=True)
    assert "4/5 |  87.50 % | A / S / seed 1 | 12 s" in shown
    assert "5/5 trials" in shown
