"""``feddag-lab experiment``, and real trials in one worker."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fabricated_results import write_trial
from memory_grid import QUICK

from feddag_lab.cli import main

ROOT = Path(__file__).resolve().parents[3]
LAST_STATE = "checkpoints/round-000001/state.json"

SUITE = """\
settings: {settings}
algorithms: {{FedAvg: {{algorithm: fedavg}}, FedDAG: {{}}}}
scenarios: {{S: {{}}}}
seeds: [1]
"""


@pytest.fixture(autouse=True)
def no_signal_handlers(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "quick.yaml"
    path.write_text(SUITE.format(settings=json.dumps({**QUICK, "num-rounds": 1})))
    return path


def test_the_shipped_suites_are_listed(capsys):
    assert main(["experiment", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("smoke ") and " trials  " in line for line in lines)


def test_a_dry_run_lists_the_trials_and_makes_nothing(suite, tmp_path, capsys):
    output = tmp_path / "out"
    command = ["experiment", "run", str(suite), "--output", str(output), "--dry-run"]
    assert main([*command, "--only", "FedAvg"]) == 0
    assert capsys.readouterr().out == "FedAvg / S / seed 1\n"
    assert not output.exists()


def test_a_wrong_suite_is_told_with_file_and_line_and_runs_nothing(suite, tmp_path, capsys):
    suite.write_text(suite.read_text().replace("[1]", "[]"))
    assert main(["experiment", "run", str(suite), "--output", str(tmp_path / "out")]) == 2
    assert f"feddag-lab: {suite}:4: seeds: the list is empty" in capsys.readouterr().err
    assert main(["experiment", "run", "no-such-suite"]) == 2
    assert "neither a file nor one of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_terminal_without_unicode_shows_names_all_the_same(suite, tmp_path, monkeypatch):
    suite.write_text(suite.read_text().replace("{S: {}}", '{"Größe ≥ 1": {}}'), encoding="utf-8")
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, encoding="ascii"))
    command = ["experiment", "run", str(suite), "--output", str(tmp_path / "out"), "--dry-run"]
    assert main(command) == 0
    sys.stdout.flush()
    assert shown.getvalue().splitlines()[0] == rb"FedAvg / Gr\xf6\xdfe \u2265 1 / seed 1"


def test_settings_of_trials_that_are_not_chosen_are_looked_at_too(suite, tmp_path, capsys):
    output = tmp_path / "out"
    trial = write_trial(output, "FedDAG", "S", 1, {"a": 0.5, "b": 1.0}, settings={"momentum": 0.0})
    trial.rename(output / "trials" / "s--feddag--seed-1")
    command = ["experiment", "run", str(suite), "--output", str(output), "--rerun-changed"]
    assert main([*command, "--only", "FedAvg", "--set", "momentum=0.25"]) == 1
    assert "trial s--feddag--seed-1: " in (told := capsys.readouterr().err)
    assert "momentum: 0.0, now 0.25" in told
    assert not (output / "suite.json").exists()


def test_a_report_on_nothing_names_the_folder(tmp_path, capsys):
    assert main(["experiment", "report", str(tmp_path / "nowhere")]) == 2
    told = f"feddag-lab: {tmp_path / 'nowhere'}: suite.json is missing"
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.e2e
def test_missing_data_fails_before_anything_runs(suite, tmp_path, capsys):
    command = ["experiment", "run", str(suite), "--output", str(tmp_path / "out"), "--workers", "1"]
    command += ["--set", "dataset=fashion-mnist", "--data-dir", str(tmp_path / "nowhere")]
    assert main(command) == 1
    assert f"data-dir = '{tmp_path / 'nowhere'}'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "trials").exists()


@pytest.mark.e2e
def test_trials_that_share_a_worker_do_not_touch_each_other(suite, tmp_path):
    """FedDAG after FedAvg in one worker is FedDAG alone, to the byte; so is the run in-process."""
    command = [sys.executable, "-m", "feddag_flwr.launcher"]
    lab = [sys.executable, "-m", "feddag_lab"]
    run = [*lab, "experiment", "run", str(suite), "--workers", "1", "--output"]
    subprocess.run([*run, str(tmp_path / "both")], check=True)
    subprocess.run([*run, str(tmp_path / "alone"), "--only", "FedDAG"], check=True)
    both, alone = (tmp_path / name / "trials" / "s--feddag--seed-1" for name in ("both", "alone"))
    config = {**QUICK, "num-rounds": 1, "run-dir": str(tmp_path), "run-name": "by-hand"}
    pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())
    subprocess.run([*command, "run", str(ROOT), "--in-process", "--run-config", pairs], check=True)

    for name in ("metrics.jsonl", LAST_STATE, "clustering.json", "summary.json"):
        expected = (alone / name).read_bytes()
        assert (both / name).read_bytes() == expected, name
        assert (tmp_path / "by-hand" / name).read_bytes() == expected, name
    report = subprocess.run([*lab, "experiment", "report", str(tmp_path / "both")], check=True)
    assert report.returncode == 0
    assert (tmp_path / "both" / "report" / "report.md").exists()


@pytest.mark.e2e
def test_a_trial_through_flower_is_the_trial_in_process(suite, tmp_path):
    patient = ["--set", "join-timeout=120", "--set", "round-timeout=300"]
    command = ["experiment", "run", str(suite), "--only", "FedAvg", *patient, "--output"]
    run = [sys.executable, "-m", "feddag_lab", *command]
    flower = ["--backend", "flower", "--app-dir", str(ROOT)]
    subprocess.run([*run, str(tmp_path / "flower"), *flower], check=True)
    subprocess.run([*run, str(tmp_path / "here")], check=True)

    there, here = (tmp_path / name / "trials/s--fedavg--seed-1" for name in ("flower", "here"))
    assert (there / "metrics.jsonl").read_bytes() == (here / "metrics.jsonl").read_bytes()
    record = json.loads((there / "trial.json").read_text())
    assert record["backend"] == "flower"
    assert record["cpu-seconds"] is None
