"""Submit a run, show its log to the end, and exit with 0 if Flower calls the run completed.

A run that fails goes on from its folder, see `feddag_flwr.deployment.submission`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from connection import connect

from feddag_flwr.deployment.submission import RESUMES, WEEK, Patience, Submission
from feddag_flwr.flower.run_config import parse_overrides


def main() -> int:
    """Submit, follow, and tell how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app", type=Path, help="folder of the app")
    parser.add_argument("run_config", type=Path, help="TOML file of settings")
    parser.add_argument("--control-api", default="superlink:9093")
    parser.add_argument("--root-certificates", type=Path, default=Path("/run/secrets/ca.crt"))
    parser.add_argument("--timeout", type=float, default=WEEK, metavar="SECONDS")
    parser.add_argument("--resumes", type=int, default=RESUMES, metavar="N")
    options = parser.parse_args()
    superlink = connect(options.control_api, options.root_certificates)
    settings = parse_overrides([str(options.run_config)])
    submission = Submission(superlink, options.app, settings, superlink.home, sys.stdout, _tell)
    outcome = submission.to_the_end(Patience(options.timeout, options.resumes))
    reason = f": {outcome.details}" if outcome.details else ""
    _tell(f"{outcome.status} after {outcome.seconds:.0f} s{reason}")
    return 0 if outcome.succeeded else 1


def _tell(line: str) -> None:
    print(f"submit: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
