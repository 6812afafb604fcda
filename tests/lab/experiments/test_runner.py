"""The runner with made-up trials: order, resume, failures, deaths, locks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_trials
import psutil
import pytest
from filelock import FileLock

from feddag_lab.experiments.output import ExperimentError, Output
from feddag_lab.experiments.pool import Job, Pool
from feddag_lab.experiments.runner import RunnerOptions, run_trials
from feddag_lab.experiments.suite import load_suite
from feddag_lab.experiments.trials import choose_trials, plan_trials

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def workers_find_the_trials(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)


def write_suite(tmp_path, behaviours, seeds="[1]", settings="{}"):
    path = tmp_path / "made-up.yaml"
    lines = [f"  {name}: {{data-dir: {text}}}" for name, text in behaviours.items()]
    path.write_text(
        "\n".join(
            [
                f"settings: {settings}",
                "algorithms:",
                *lines,
                "scenarios: {S: {}}",
                f"seeds: {seeds}",
            ]
        )
    )
    return path


def run(tmp_path, behaviours, *, overrides=None, name="out", seeds="[1]", only=(), **plan):
    suite = load_suite(write_suite(tmp_path, behaviours, seeds))
    output = tmp_path / name
    every = plan_trials(suite, overrides or {}, output)
    trials = choose_trials(every, only)
    others = [trial for trial in every if trial not in trials]
    plan = {"workers": 2, "function": "fake_trials:run", "check": "fake_trials:check"} | plan
    return run_trials(
        suite.to_json({}), trials, Output(output), RunnerOptions(**plan), others=others
    )


def journal(tmp_path, name="out"):
    """Pairs of worker and trial, in the order in which trials started."""
    path = tmp_path / name / "trials" / "journal"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def record(tmp_path, trial, name="out"):
    return json.loads((tmp_path / name / "trials" / trial / "trial.json").read_text())


def test_each_trial_leaves_its_run_and_how_it_ended(tmp_path, capsys):
    report = run(tmp_path, {"A": "ok", "B*": "nap"}, seeds="[3, 1]", workers=1)

    assert (report.finished, report.earlier, report.failures) == (4, 0, {})
    assert [trial for _, trial in journal(tmp_path)] == [
        "s--a--seed-3", "s--b-star--seed-3", "s--a--seed-1", "s--b-star--seed-1"
    ]  # fmt: skip
    assert len({worker for worker, _ in journal(tmp_path)}) == 1
    found = record(tmp_path, "s--b-star--seed-1")
    assert found["algorithm"] == "B*"
    assert found["scenario"] == "S"
    assert found["seed"] == 1
    assert found["status"] == "finished"
    assert found["reason"] is None
    assert found["backend"] == "in-process"
    assert 0.05 <= found["seconds"] < 10
    assert 0 <= found["cpu-seconds"] < 10
    assert found["peak-memory-mib"] > 1
    assert found["started"] <= found["finished"]
    suite = json.loads((tmp_path / "out" / "suite.json").read_text())
    assert suite["algorithms"]["B*"] == {"data-dir": "nap"}
    assert suite["scenarios"] == {"S": {"settings": {}, "published": None, "without": []}}
    assert suite["seeds"] == [3, 1]
    log = tmp_path / "out" / "trials" / "s--a--seed-3.log"
    assert log.read_text() == "working on s--a--seed-3\n"
    shown = capsys.readouterr().out
    assert "working on" not in shown
    assert "4/4 |  75.00 % | B* / S / seed 1" in shown


def test_what_goes_wrong_with_a_trial_stops_no_other(tmp_path, capsys):
    behaviours = {"A": "raise", "B": "kill", "C": "exit", "D": "ok", "E": "ok"}
    report = run(tmp_path, behaviours)

    assert report.finished == 2
    assert report.failures == {
        "A / S / seed 1": "ValueError: not today",
        "B / S / seed 1": "its process was ended by SIGKILL, perhaps for want of memory",
        "C / S / seed 1": "SystemExit: 7",
    }
    assert [record(tmp_path, f"s--{name}--seed-1")["status"] for name in "abcde"] == [
        "failed", "failed", "failed", "finished", "finished"
    ]  # fmt: skip
    assert record(tmp_path, "s--b--seed-1")["cpu-seconds"] is None
    log = (tmp_path / "out" / "trials" / "s--a--seed-1.log").read_text()
    assert "Traceback" in log
    assert "second line" in log
    assert "FAILED   | A / S / seed 1" in capsys.readouterr().out


def test_a_second_run_does_what_is_not_finished_and_nothing_else(tmp_path):
    run(tmp_path, {"A": "ok", "B": "raise"})
    broken = tmp_path / "out" / "trials" / "s--c--seed-1"
    broken.mkdir()
    (broken / "half").touch()

    report = run(tmp_path, {"A": "raise", "B": "ok", "C": "ok"})

    assert (report.finished, report.earlier, report.failures) == (2, 1, {})
    assert sorted(trial for _, trial in journal(tmp_path)) == [
        "s--a--seed-1", "s--b--seed-1", "s--b--seed-1", "s--c--seed-1"
    ]  # fmt: skip
    assert not (broken / "half").exists()
    log = (tmp_path / "out" / "trials" / "s--b--seed-1.log").read_text()
    assert "Traceback" not in log


def test_finished_trials_with_other_settings_are_named_and_kept(tmp_path):
    run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 3})

    with pytest.raises(ExperimentError) as raised:
        run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 4, "momentum": 0})
    assert "trial s--a--seed-1: momentum: 0.5, now 0.0; num-rounds: 3, now 4\n" in str(raised.value)
    assert len(journal(tmp_path)) == 2
    report = run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 4}, rerun_changed=True)
    assert (report.finished, report.earlier) == (2, 0)
    settings = json.loads((tmp_path / "out/trials/s--a--seed-1/settings.json").read_text())
    assert settings["num-rounds"] == 4


def test_trials_that_are_not_chosen_keep_the_suite_they_belong_to(tmp_path):
    run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 3})
    suite = (tmp_path / "out" / "suite.json").read_bytes()

    with pytest.raises(ExperimentError) as raised:
        run(
            tmp_path,
            {"A": "ok", "B": "ok", "C": "ok"},
            overrides={"num-rounds": 4},
            only=["A"],
            rerun_changed=True,
        )
    assert "\ntrial s--b--seed-1: num-rounds: 3, now 4\n" in str(raised.value)
    assert "s--a--" not in str(raised.value)
    assert "--rerun-changed without --only" in str(raised.value)
    assert (tmp_path / "out" / "suite.json").read_bytes() == suite
    assert len(journal(tmp_path)) == 2
    more = run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 3, "threads": 2})
    assert more.earlier == 2  # what the machine offers is no other result


def truncate(folder):
    path = folder / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def repeat(folder):
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def forget_the_rest(folder):
    (folder / "trial.json").write_text('{"status": "finished", "seconds": 3}')


def rename(folder):
    path = folder / "trial.json"
    path.write_text(path.read_text().replace('"scenario": "S"', '"scenario": "S "'))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncate, "metrics.jsonl: the last round is 2, not 3"),
        (repeat, "metrics.jsonl: rounds are not 0, 1, .. 3, each once"),
        (lambda folder: (folder / "settings.json").unlink(), "settings.json is missing"),
        (lambda folder: (folder / "summary.json").write_text("{"), "summary.json: "),
        (forget_the_rest, "trial.json: algorithm: "),
        (rename, "trial.json is that of A / S  / seed 1"),
    ],
)
def test_a_trial_that_the_report_could_not_use_runs_again(tmp_path, capsys, damage, told):
    run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 3})
    damage(tmp_path / "out" / "trials" / "s--a--seed-1")
    capsys.readouterr()

    report = run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 3})

    assert (report.finished, report.earlier) == (1, 1)
    assert f"trial s--a--seed-1 runs again: {told}" in capsys.readouterr().out
    assert run(tmp_path, {"A": "ok", "B": "ok"}, overrides={"num-rounds": 3}).earlier == 2


def test_a_run_that_leaves_figures_nobody_can_use_has_failed(tmp_path):
    report = run(tmp_path, {"A": "diverge"}, overrides={"num-rounds": 3})
    assert report.finished == 0
    assert "its files cannot be used: metrics.jsonl, line 4" in report.failures["A / S / seed 1"]
    assert record(tmp_path, "s--a--seed-1")["status"] == "failed"


def test_a_log_that_cannot_be_written_costs_its_job_alone(tmp_path):
    (tmp_path / "file").touch()
    still = {"behaviour": "ok", "parent": ""}
    logs = {"a": tmp_path / "file" / "log", "b": tmp_path / ("b" * 300), "c": tmp_path / "log"}
    jobs = [Job(name, "fake_trials:act", still, log) for name, log in logs.items()]
    with Pool(1, lambda *_: True, lambda number: {}) as pool:
        endings = {e.job.key: e.ending for e in pool.work(jobs) if e.ending is not None}
    assert endings["a"].failure.startswith("FileExistsError: ")
    assert endings["b"].failure.startswith("OSError: ")
    assert endings["c"].failure is None
    assert endings["a"].peak_memory is not None  # the worker lived to tell


def test_what_a_terminal_or_a_log_cannot_show_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    job = Job("a", "fake_trials:say", {"text": "Größe ≥ 1"}, tmp_path / "log")
    with Pool(1, lambda *_: True, lambda number: {}) as pool:
        endings = [event.ending for event in pool.work([job]) if event.ending is not None]
    assert [ending.failure for ending in endings] == [None]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "Größe ≥ 1\n"


def test_a_setting_that_is_newer_than_a_trial_is_taken_at_its_default(tmp_path):
    run(tmp_path, {"A": "ok"})
    path = tmp_path / "out/trials/s--a--seed-1/settings.json"
    settings = json.loads(path.read_text())
    del settings["momentum"]
    path.write_text(json.dumps(settings))

    assert run(tmp_path, {"A": "ok"}).earlier == 1
    with pytest.raises(ExperimentError, match=r"momentum: 0.5, now 0.9"):
        run(tmp_path, {"A": "ok"}, overrides={"momentum": 0.9})
    # Sharing had another default before it became a setting.
    del settings["teacher-clusters"]
    path.write_text(json.dumps(settings))
    with pytest.raises(ExperimentError, match=r"teacher-clusters: 'graph', now 'agreeing'"):
        run(tmp_path, {"A": "ok"})


def test_a_folder_of_another_suite_is_left_alone(tmp_path):
    run(tmp_path, {"A": "ok"})
    path = tmp_path / "out" / "suite.json"
    path.write_text(path.read_text().replace("made-up", "theirs"))

    with pytest.raises(ExperimentError, match="holds the suite 'theirs', not 'made-up'"):
        run(tmp_path, {"A": "ok", "B": "ok"})
    assert len(journal(tmp_path)) == 1


def test_two_runners_keep_out_of_each_other_s_way_but_a_lock_left_behind_hinders_nobody(tmp_path):
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".lock"),
        pytest.raises(ExperimentError, match="another runner is at work there"),
    ):
        run(tmp_path, {"A": "ok"})
    assert (tmp_path / "out" / ".lock").exists()
    assert run(tmp_path, {"A": "ok"}).finished == 1


def test_missing_data_is_found_before_any_trial_runs(tmp_path):
    suite = write_suite(tmp_path, {"A": "missing"}, seeds="[1, 2]")
    with pytest.raises(ExperimentError) as raised:
        fake_trials.through_runner(suite, tmp_path / "out", 1)
    assert str(raised.value).splitlines() == [
        "scenario 'S', seed 1: FileNotFoundError: no data for seed 1",
        "scenario 'S', seed 2: FileNotFoundError: no data for seed 2",
    ]
    assert journal(tmp_path) == []


def test_trials_run_side_by_side(tmp_path):
    report = run(tmp_path, {"A": "together", "B": "together"})
    assert report.finished == 2
    assert len({worker for worker, _ in journal(tmp_path)}) == 2


def test_without_room_in_memory_one_worker_does_it_all(tmp_path):
    asked = []

    def no_room(pids, peak):
        asked.append((len(pids), peak))
        return False

    still = {"behaviour": "ok", "parent": ""}
    jobs = [Job(name, "fake_trials:act", still, tmp_path / name) for name in "abc"]
    with Pool(3, no_room, lambda number: {}) as pool:
        events = [event for event in pool.work(jobs) if event.job is not None]
        assert len(pool._workers) == 1
    assert [(event.job.key, event.ending is None) for event in events] == [
        ("a", True), ("a", False), ("b", True), ("b", False), ("c", True), ("c", False)
    ]  # fmt: skip
    assert all(event.ending is None or event.ending.failure is None for event in events)
    assert asked[0] == (1, None)
    assert asked[-1][1] > 1  # by then, a worker's memory has been measured


# --- the end of the runner itself ---


def start_runner(tmp_path, suite):
    return subprocess.Popen(
        [sys.executable, str(HERE / "fake_trials.py"), str(suite), str(tmp_path / "out"), "2"],
        stdout=subprocess.DEVNULL,
    )


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_runner_s_end_is_its_workers_end_and_what_was_finished_stays(tmp_path, number):
    suite = write_suite(tmp_path, {"A": "ok", "B": "hang", "C": "ok", "D": "hang"})
    runner = start_runner(tmp_path, suite)
    try:
        wait_until(lambda: len(journal(tmp_path)) == 4)
        wait_until((tmp_path / "out/trials/s--c--seed-1/trial.json").exists)
        workers = {int(worker) for worker, _ in journal(tmp_path)}
        assert len(workers) == 2
        runner.send_signal(number)
        assert runner.wait(60) == (128 + number if number == signal.SIGTERM else -number)
        wait_until(lambda: not any(map(psutil.pid_exists, workers)))
    finally:
        runner.kill()
    hanging = [tmp_path / "out" / "trials" / f"s--{name}--seed-1" for name in "bd"]
    assert all(folder.exists() and not (folder / "trial.json").exists() for folder in hanging)

    (tmp_path / "out" / "trials" / "go").touch()
    report = fake_trials.through_runner(suite, tmp_path / "out", 2)

    assert (report.finished, report.earlier) == (2, 2)
    assert sorted(trial for _, trial in journal(tmp_path)) == [
        f"s--{name}--seed-1" for name in ("a", "b", "b", "c", "d", "d")
    ]
