"""Submit a run, show its log to the end, and exit with 0 if the run completed.

``flwr run --stream`` exits with 0 when the run failed, and its stream ends when the SuperLink dies,
which a run survives. So the log is followed anew until `flwr ls` says that the run is over.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from connection import NAME, flwr, write_connection

PAUSE = 3.0
COMPLETED = "finished:completed"


def follow(run_id: str, seen: int) -> int:
    """Print a run's log until its stream ends.

    Parameters
    ----------
    run_id : str
        The run.
    seen : int
        Lines to skip, printed before: a stream begins at the beginning.

    Returns
    -------
    int
        Lines seen by now.
    """
    command = ["flwr", "log", run_id, NAME, "--stream"]
    lines = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stream:
        assert stream.stdout is not None
        for line in stream.stdout:
            lines += 1
            if lines > seen:
                print(line, end="", flush=True)
    return max(lines, seen)


def find(run_id: str) -> dict[str, Any] | None:
    """Return what `flwr ls` says of a run; None while the SuperLink cannot be reached."""
    try:
        runs: list[dict[str, Any]] = flwr("ls", "--run-id", run_id)["runs"]
    except RuntimeError as error:
        print(f"submit: {error}", file=sys.stderr, flush=True)
        return None
    return runs[0]


def main() -> int:
    """Submit, follow, and tell how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app", type=Path, help="folder of the app")
    parser.add_argument("run_config", type=Path, help="TOML file of settings")
    parser.add_argument("--control-api", default="superlink:9093")
    parser.add_argument("--root-certificates", default="/run/secrets/ca.crt")
    options = parser.parse_args()
    write_connection(options.control_api, options.root_certificates)
    started = flwr("run", str(options.app), "--run-config", str(options.run_config))
    run_id = str(started["run-id"])
    print(f"submit: run {run_id}", flush=True)
    seen = 0
    while True:
        seen = follow(run_id, seen)
        run = find(run_id)
        if run is not None and run["status"].startswith("finished"):
            break
        time.sleep(PAUSE)
    details = run.get("status-details")
    print(f"submit: run {run_id} {run['status']}{f': {details}' if details else ''}", flush=True)
    return 0 if run["status"] == COMPLETED else 1


if __name__ == "__main__":
    sys.exit(main())
