"""The command ``feddag-lab deploy-demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from feddag_flwr.flower.private_home import require_posix
from feddag_lab.demonstration.examples import NAMES, example

MIN_ROUNDS = 4


def add_command(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add ``deploy-demo`` to the sub-commands of ``feddag-lab``."""
    demo = commands.add_parser(
        "deploy-demo",
        help="show a real federation on this machine: TLS, keys, four nodes",
        description="Start a SuperLink, a SuperExec and four SuperNodes with parts of their own as "
        "local processes with TLS and node authentication, run the app, compare the final models "
        "with the simulation's, and show who gets nowhere. Leaves the run folder and no process. "
        "The exit status is 0 if all of that held.",
    )
    demo.add_argument("app_dir", nargs="?", type=Path, default=Path(), metavar="APP_DIR")
    demo.add_argument(
        "--run-dir", type=Path, default=Path("runs"), metavar="DIR", help="default: runs"
    )
    demo.add_argument(
        "--example",
        choices=NAMES,
        default=NAMES[0],
        help="four wards with handwritten digits (default), or the four hospitals of the example "
        "heart, whose tables are in --data-dir",
    )
    demo.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of the tables of heart")
    demo.add_argument("--rounds", type=_rounds, default=4, metavar="N", help="4 (default) or more")
    demo.add_argument("--insecure", action="store_true", help="without TLS and keys")
    demo.add_argument(
        "--timeout", type=float, default=1800.0, metavar="SECONDS", help="default: %(default)g"
    )
    demo.add_argument(
        "--keep-logs", type=Path, metavar="DIR", help="keep the logs of all processes"
    )
    demo.set_defaults(handler=_demo)


def _rounds(text: str) -> int:
    number = int(text)
    if number < MIN_ROUNDS:
        raise argparse.ArgumentTypeError(f"{number} is less than {MIN_ROUNDS}")
    return number


def _demo(options: argparse.Namespace) -> int:
    from feddag_lab.demonstration.demo import DeployDemo  # takes a second

    require_posix()
    demonstration = DeployDemo(
        options.app_dir,
        example(options.example, options.app_dir, options.data_dir),
        options.run_dir.expanduser(),
        options.rounds,
        options.insecure,
        options.timeout,
        options.keep_logs,
    )
    return 0 if demonstration.show() else 1
