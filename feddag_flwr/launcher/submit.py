"""The command ``feddag-flwr submit``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from feddag_flwr.deployment.submission import RESUMES, WEEK, Patience, Submission
from feddag_flwr.deployment.superlink import SuperLink
from feddag_flwr.flower.private import get_flwr_home
from feddag_flwr.flower.run_config import parse_overrides, read_defaults
from feddag_flwr.launcher.command import exit_status
from feddag_flwr.launcher.named_parts import check_own_parts
from feddag_flwr.settings import Settings, keys, refuse_old_names


def add_command(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the command to the sub-commands of ``feddag-flwr``."""
    submit = commands.add_parser(
        "submit",
        help="run an app in a federation, to its true end",
        description="Submit a run to a SuperLink, show its log, also past a SuperLink that is away "
        "for a while, and let a run that failed go on from its folder. The exit status is 0 if "
        "Flower calls the run completed, 1 if not, 124 if it is still going after --timeout.",
    )
    submit.add_argument("app_dir", type=Path, metavar="APP_DIR")
    submit.add_argument(
        "connection", metavar="CONNECTION", help="a SuperLink's name in Flower's config.toml"
    )
    submit.add_argument(
        "--run-config",
        action="append",
        default=[],
        metavar="'KEY=VALUE KEY=\"TEXT\"'",
        help="settings, or a TOML file of them; paths are the server's",
    )
    submit.add_argument(
        "--resumes",
        type=int,
        default=RESUMES,
        metavar="N",
        help="times that a run goes on that failed after a finished round; default: %(default)s",
    )
    submit.add_argument("--timeout", type=float, default=WEEK, metavar="SECONDS")
    submit.set_defaults(handler=_submit)


def _submit(options: argparse.Namespace) -> int:
    overrides, defaults = parse_overrides(options.run_config), read_defaults(options.app_dir)
    if set(keys()) <= defaults.keys():  # not an app with settings of its own
        refuse_old_names(overrides)
        check_own_parts(Settings.from_run_config({**defaults, **overrides}), options.app_dir)
    with tempfile.TemporaryDirectory(prefix="feddag-submit-") as work_dir:
        superlink = SuperLink(get_flwr_home(), options.connection)
        submission = Submission(
            superlink, options.app_dir, overrides, Path(work_dir), sys.stdout, _tell
        )
        outcome = submission.to_the_end(Patience(options.timeout, options.resumes))
    reason = f": {outcome.details}" if outcome.details else ""
    _tell(f"{outcome.status} after {outcome.seconds:.0f} s{reason}")
    return exit_status(outcome)


def _tell(line: str) -> None:
    print(f"feddag-flwr: {line}", file=sys.stderr, flush=True)
