"""Trials without learning, for workers: ``data-dir`` says what a trial does."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from fabricated_results import evaluation


def run(run_config):
    parent = Path(run_config["run-dir"])
    folder = parent / run_config["run-name"]
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(run_config))
    note(parent, f"{os.getpid()} {folder.name}")
    print("working on", folder.name)
    act(run_config["data-dir"], parent)
    lines = [{"round": number, "bytes": {}} for number in range(run_config["num-rounds"] + 1)]
    lines[-1]["all"] = evaluation({"a": 0.5, "b": 1.0})
    if run_config["data-dir"] == "diverge":
        lines[-1]["all"]["overall"]["balanced-accuracy"] = float("nan")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "overall": {"clients": 2, "balanced-accuracy": 0.75},
        "num-clusters": 1,
        "clusters": [{"cluster": 0, "members": ["a", "b"]}],
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def act(behaviour, parent):
    if behaviour == "raise":
        raise ValueError("not today\nsecond line")
    if behaviour == "exit":
        sys.exit(7)
    if behaviour == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "nap":
        time.sleep(0.05)
    if behaviour == "together":  # until another trial is under way
        wait(lambda: len(list((parent / "together").iterdir())) == 2, parent, "together")
    if behaviour == "hang":
        wait((parent / "go").exists, parent, "hang")


def say(text):
    print(text)


def wait(condition, parent, name):
    (parent / name).mkdir(exist_ok=True)
    (parent / name / str(os.getpid())).touch()
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def note(parent, line):
    with (parent / "journal").open("a") as journal:
        journal.write(line + "\n")


def check(run_config):
    if run_config["data-dir"] == "missing":
        raise FileNotFoundError(f"no data for seed {run_config['seed']}")


def through_runner(suite, output, workers):
    """Run a suite in this process, as the command does, with these trials."""
    from feddag_lab.experiments.output import Output
    from feddag_lab.experiments.runner import RunnerOptions, run_trials
    from feddag_lab.experiments.suite import load_suite
    from feddag_lab.experiments.trials import plan_trials

    loaded = load_suite(Path(suite))
    trials = plan_trials(loaded, {}, Path(output))
    plan = RunnerOptions(
        workers=int(workers), function="fake_trials:run", check="fake_trials:check"
    )
    return run_trials(loaded.to_json({}), trials, Output(Path(output)), plan)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    through_runner(*sys.argv[1:])
