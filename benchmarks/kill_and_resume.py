"""Kills a run at random moments and resumes it, compares it with one that nobody killed.

The job of ``make run`` (digits, 20 clients) with fewer rounds runs once undisturbed, in a process
of its own. Then it runs again, is killed with SIGKILL after a random time and resumed to its end;
as often as asked for. Metrics lines and the last checkpoint's files must be the same to the byte.
Seconds a round of writing checkpoints, and their size, are the undisturbed run's.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# Settings of the run to resume stand in the notes, and what is being resumed is one of them.
DIFFERS = {"notes.json", "manifest.json"}


def start(folder: Path, name: str, rounds: int) -> subprocess.Popen[bytes]:
    """Start the run, or go on with it where it has a folder."""
    command = [sys.executable, "-m", "feddag_flwr.launcher", "run", str(ROOT), "--in-process"]
    if list((folder / name / "checkpoints").glob("round-??????")):
        command += ["--resume", str(folder / name)]
    else:
        command += [
            "--run-config",
            f'run-dir="{folder}" run-name="{name}" num-rounds={rounds} local-epochs=2 '
            f"warmup-epochs=5 evaluate-every=5",
        ]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, stdin=quiet)


def lines(run: Path) -> int:
    """Count the rounds that a run has told of."""
    path = run / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def differences(one: Path, two: Path) -> list[str]:
    """Name what differs between two finished runs."""
    last = sorted((one / "checkpoints").glob("round-??????"))[-1].name
    files = [one / "metrics.jsonl", one / "summary.json"]
    files += [path for path in (one / "checkpoints" / last).rglob("*") if path.is_file()]
    relative = [path.relative_to(one) for path in files if path.name not in DIFFERS]
    return [
        str(path)
        for path in relative
        if not (two / path).is_file() or not filecmp.cmp(one / path, two / path, shallow=False)
    ]


def kill_and_resume(folder: Path, name: str, rounds: int, pause: float) -> int:
    """Kill a run after `pause` seconds at work, and resume it to the end; return the round reached.

    A run that is killed before its first checkpoint has nothing to resume: it begins again.
    """
    process = start(folder, name, rounds)
    while process.poll() is None and not lines(folder / name):
        time.sleep(0.05)
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = lines(folder / name) - 1
    resumed = start(folder, name, rounds)
    if resumed.wait() != 0:
        raise RuntimeError(f"{name} could not be resumed after round {reached}")
    return reached


def main() -> int:
    """Run the benchmark; the exit status is 0 if no resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if start(folder, "whole", options.rounds).wait() != 0:
            raise RuntimeError("the undisturbed run failed")
        whole = folder / "whole"
        seconds = [json.loads(line) for line in (whole / "seconds.jsonl").open()]
        trained = sum(line.get("train", 0.0) for line in seconds)
        rng = np.random.default_rng(options.seed)
        faults = 0
        for number, share in enumerate(rng.random(options.kills)):
            reached = kill_and_resume(folder, f"killed-{number}", options.rounds, share * trained)
            found = differences(whole, folder / f"killed-{number}")
            faults += bool(found)
            told = "equal to the byte" if not found else f"differs in {', '.join(found)}"
            print(
                f"killed after round {reached} of {options.rounds} and resumed: {told}", flush=True
            )
        costs = [line["checkpoint"] for line in seconds]
        last = sorted((whole / "checkpoints").glob("round-??????"))[-1]
        size = sum(path.stat().st_size for path in last.rglob("*") if path.is_file())
        print(
            f"a checkpoint: {size / 1e6:.2f} MB, {np.mean(costs):.3f} s a round "
            f"(longest {max(costs):.3f} s), beside {trained / options.rounds:.3f} s of training"
        )
        print(f"{options.kills - faults} of {options.kills} resumed runs equal the undisturbed one")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
