"""The command ``feddag-flwr``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feddag_flwr.data_check import command as data_check
from feddag_flwr.deployment import cli as deployment
from feddag_flwr.flower.private_home import require_posix
from feddag_flwr.flower.run_config import (
    RESUME,
    Value,
    complete_overrides,
    count_supernodes,
    parse_overrides,
    read_defaults,
    read_run_settings,
)
from feddag_flwr.flower.run_status import RunOutcome
from feddag_flwr.inference import cli as inference
from feddag_flwr.launcher import submit
from feddag_flwr.launcher.command import EXIT_USAGE, exit_status, run_command
from feddag_flwr.launcher.named_parts import check_named
from feddag_flwr.launcher.simulation import run_simulation
from feddag_flwr.settings import OWN, Settings, keys, refuse_old_names

TAIL_LINES = 30
# Commands that left for the laboratory.
MOVED = ("experiment", "deploy-demo")
# Options of ``run`` that only Flower has a use for; None where they are not given.
FLOWER_OPTIONS = (
    "num_supernodes", "cpus", "cpus_per_client", "gpus_per_client", "ray_address", "timeout",
    "keep_logs",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``feddag-flwr`` and return its exit status.

    0 when all went well (for ``run``: when Flower calls the run completed), 1 when not, 2 for a
    wrong command line, 124 when ``--timeout`` ended a run. A signal ends the process with 128 plus
    its number.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words and words[0] in MOVED:
        command = f"feddag-lab {words[0]}"
        print(f"feddag-flwr: {words[0]} is now `{command}`", file=sys.stderr)
        return EXIT_USAGE
    return run_command(_parser(), words)


def _run(options: argparse.Namespace) -> int:
    require_posix()
    if options.in_process:
        return _run_in_process(options)
    outcome = _simulate(options)
    _report(outcome)
    return exit_status(outcome)


def _run_in_process(options: argparse.Namespace) -> int:
    given = [name for name in FLOWER_OPTIONS if getattr(options, name) is not None]
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"--in-process takes no {names}")
    from feddag_flwr.simulation import run_in_process  # PyTorch and Flower take seconds

    defaults = read_defaults(options.app_dir)
    overrides = complete_overrides(_overrides(options), defaults, Path.cwd())
    settings = Settings.from_run_config({**defaults, **overrides})
    check_named(settings, options.app_dir)
    run_in_process(settings)
    return 0


def _overrides(options: argparse.Namespace) -> dict[str, Value]:
    """Return the settings given; those of the run to resume, where there is one, come first."""
    given = parse_overrides(options.run_config)
    before = {} if options.resume is None else read_run_settings(options.resume)
    defaults = read_defaults(options.app_dir)
    if set(keys()) <= defaults.keys():  # not an app with settings of its own
        refuse_old_names(before, str(options.resume / "settings.json") if before else "")
        refuse_old_names(given)
    if options.resume is None:
        return given
    # What an own algorithm's keys were by default is not written where Flower takes them from.
    before = {k: v for k, v in before.items() if k in defaults or not k.startswith(OWN)}
    return {**before, **given, RESUME: str(options.resume)}


def _simulate(options: argparse.Namespace) -> RunOutcome:
    overrides, defaults = _overrides(options), read_defaults(options.app_dir)
    if set(keys()) <= defaults.keys():  # not an app with settings of its own
        check_named(Settings.from_run_config({**defaults, **overrides}), options.app_dir)
    supernodes = options.num_supernodes
    if supernodes is None:
        supernodes = count_supernodes(overrides, defaults)
    return run_simulation(
        options.app_dir,
        overrides,
        num_supernodes=supernodes,
        cpus=options.cpus,
        cpus_per_client=options.cpus_per_client or 1,
        gpus_per_client=options.gpus_per_client or 0.0,
        ray_address=options.ray_address,
        timeout=options.timeout,
        stream=sys.stdout,
        keep_logs=options.keep_logs,
    )


def _report(outcome: RunOutcome) -> None:
    """Say on stderr how the run ended and, if badly, repeat the end of its log."""
    if not outcome.succeeded:
        tail = outcome.log.splitlines()[-TAIL_LINES:]
        print("\n".join(["--- the end of the log ---", *tail, "---"]), file=sys.stderr)
    reason = f": {outcome.details}" if outcome.details else ""
    print(f"feddag-flwr: {outcome.status} in {outcome.seconds:.1f} s{reason}", file=sys.stderr)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="feddag-flwr", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_scenario(commands)
    data_check.add_command(commands, parse_overrides)
    inference.add_commands(commands)
    deployment.add_commands(commands)
    submit.add_command(commands)
    _add_report(commands)
    return parser


def _write_report(options: argparse.Namespace) -> int:
    from feddag_flwr.report.page import write_report  # Matplotlib takes a second

    print(write_report(options.run_folder, options.output))
    return 0


def _draw_scenario(options: argparse.Namespace) -> int:
    from feddag_flwr.data.pictures import draw_scenario  # Matplotlib takes a second

    settings = Settings.from_run_config(parse_overrides(options.run_config))
    for path in draw_scenario(settings, options.output):
        print(path)
    return 0


def _add_run(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    run = commands.add_parser(
        "run",
        help="simulate a Flower app",
        description="Run a Flower app in simulation and leave no process behind. The exit status "
        "is 0 if the run completed, 1 if it failed, 124 if --timeout ended it.",
    )
    run.add_argument("app_dir", nargs="?", type=Path, default=Path(), metavar="APP_DIR")
    _add_run_config(run, "; relative run-dir and data-dir start here")
    run.add_argument(
        "--resume",
        type=Path,
        metavar="RUN_FOLDER",
        help="go on with a stopped run, with its settings and those given here",
    )
    run.add_argument(
        "--in-process",
        action="store_true",
        help="run this project's app in this process, without Ray and SuperLink: the same files, "
        "on one core; of the options below it takes none",
    )
    run.add_argument("--num-supernodes", type=_positive, metavar="N", help="default: num-clients")
    run.add_argument(
        "--cpus", type=_positive, metavar="C", help="for all clients; default: all usable"
    )
    run.add_argument("--cpus-per-client", type=_positive, metavar="N", help="default: 1")
    run.add_argument("--gpus-per-client", type=_share, metavar="F", help="default: 0")
    run.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="a Ray cluster that runs already (docs/ray.md), or auto: the one RAY_ADDRESS names, "
        "else one on this machine; default: a Ray of this run's own",
    )
    run.add_argument("--timeout", type=_share, metavar="SECONDS", help="default: none")
    run.add_argument("--keep-logs", type=Path, metavar="DIR", help="keep Flower's and Ray's logs")
    run.set_defaults(handler=_run)


def _add_scenario(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    scenario = commands.add_parser(
        "scenario",
        help="draw which client holds what",
        description="Draw the scenario that the settings describe, without training: counts.png "
        "(clients x labels) and samples.png (training images of a few clients).",
    )
    _add_run_config(scenario)
    scenario.add_argument("--output", type=Path, required=True, metavar="DIR")
    scenario.set_defaults(handler=_draw_scenario)


def _add_report(commands: Any) -> None:  # noqa: ANN401
    report = commands.add_parser(
        "report",
        help="show a run folder as one page",
        description="Write what a run folder holds as one HTML page, which needs no network: what "
        "came of the run, curves, matrices, clients, settings, commands. The run may be over or "
        "not; what is missing or damaged is passed over, and the page says so.",
    )
    report.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    report.add_argument(
        "--output", type=Path, metavar="FILE", help="default: report.html in the folder"
    )
    report.set_defaults(handler=_write_report)


def _add_run_config(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument(
        "--run-config",
        action="append",
        default=[],
        metavar="'KEY=VALUE KEY=\"TEXT\"'",
        help="settings, or a TOML file of them; may be repeated, the last one wins" + more,
    )
