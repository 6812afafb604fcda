"""Submit a run, show its log to the end, and exit with 0 if Flower calls the run completed.

``flwr run --stream`` exits with 0 when the run failed, and its stream ends when the SuperLink dies,
which the run survives. So the log is followed anew until ``flwr ls`` says that the run is over.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from connection import Connection

from feddag_flwr.deployment.run import Run

WEEK = 7 * 24 * 3600.0


def main() -> int:
    """Submit, follow, and tell how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app", type=Path, help="folder of the app")
    parser.add_argument("run_config", type=Path, help="TOML file of settings")
    parser.add_argument("--control-api", default="superlink:9093")
    parser.add_argument("--root-certificates", type=Path, default=Path("/run/secrets/ca.crt"))
    parser.add_argument("--timeout", type=float, default=WEEK, metavar="SECONDS")
    options = parser.parse_args()
    connection = Connection(options.control_api, options.root_certificates)
    started = connection.ask("run", str(options.app), "--run-config", str(options.run_config))
    run_id = int(started["run-id"])
    print(f"submit: run {run_id}", flush=True)
    run = Run(run_id, connection.flower, connection.home / f"run-{run_id}.log", sys.stdout)
    outcome = run.wait(options.timeout)
    reason = f": {outcome.details}" if outcome.details else ""
    print(f"submit: {outcome.status} after {outcome.seconds:.0f} s{reason}", flush=True)
    return 0 if outcome.succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
