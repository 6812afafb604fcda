"""The commands ``feddag-lab experiment run``, ``list`` and ``report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from feddag_flwr.flower.private_home import require_posix
from feddag_lab.experiments.layout import DamagedResultsError
from feddag_lab.experiments.output import Output
from feddag_lab.experiments.product import SettingValue
from feddag_lab.experiments.runner import BACKENDS, ExperimentOutcome, RunnerOptions, run_trials
from feddag_lab.experiments.suite import find_suite, load_suite, shipped_suites
from feddag_lab.experiments.trials import choose_trials, plan_trials
from feddag_lab.experiments.yaml_marks import parse_assignment

RESULTS = Path("results")


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add ``experiment`` to the sub-commands of ``feddag-lab``."""
    experiment = commands.add_parser(
        "experiment",
        help="run a suite of algorithms, scenarios and seeds, and make tables of the results",
        description=__doc__,
    )
    actions = experiment.add_subparsers(required=True, metavar="ACTION")
    _add_run(actions)
    listing = actions.add_parser("list", help="show the suites that come with the package")
    listing.set_defaults(handler=_list)
    report = actions.add_parser("report", help="make tables and plots of an experiment")
    report.add_argument("results", type=Path, metavar="RESULTS", help="folder of the experiment")
    report.add_argument("--output", type=Path, metavar="DIR", help="default: RESULTS/report")
    report.set_defaults(handler=_report)


def _add_run(actions: Any) -> None:  # noqa: ANN401
    run = actions.add_parser(
        "run",
        help="run a suite, or go on with it",
        description="Run a suite's trials side by side; what is finished already is not run again. "
        "The exit status is 0 if all trials have finished, 1 if some failed, 2 if the suite is "
        "wrong.",
    )
    run.add_argument("suite", metavar="SUITE", help="a shipped suite's name, or a YAML file")
    run.add_argument("--output", type=Path, metavar="DIR", help="default: results/SUITE")
    run.add_argument("--data-dir", metavar="DIR", help="folder of the data source")
    run.add_argument("--workers", type=_positive, metavar="N", help="trials at once; default: all "
                     "that cores and memory allow")  # fmt: skip
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of every trial"
    )
    run.add_argument(
        "--only", action="append", default=[], metavar="ALGORITHM/SCENARIO/SEED",
        help="run these trials alone; names, slugs or shell patterns; may be repeated",
    )  # fmt: skip
    run.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    run.add_argument("--app-dir", type=Path, default=Path(), metavar="APP_DIR",
                     help="folder of pyproject.toml, for --backend flower")  # fmt: skip
    run.add_argument(
        "--rerun-changed", action="store_true", help="run finished trials anew if settings differ"
    )
    run.add_argument("--dry-run", action="store_true", help="check the suite and list its trials")
    run.set_defaults(handler=_run)


def _run(options: argparse.Namespace) -> int:
    require_posix()
    suite = load_suite(find_suite(options.suite))
    overrides: dict[str, SettingValue] = dict(map(parse_assignment, options.set))
    if options.data_dir is not None:
        overrides["data-dir"] = str(Path(options.data_dir).expanduser().resolve())
    folder = (options.output or RESULTS / suite.name).expanduser().resolve()
    every = plan_trials(suite, overrides, folder)
    trials = choose_trials(every, options.only)
    if options.dry_run:
        print("\n".join(map(str, trials)))
        return 0
    how = RunnerOptions(
        workers=options.workers,
        backend=options.backend,
        app_dir=options.app_dir,
        rerun_changed=options.rerun_changed,
    )
    print(f"suite {suite.name}: {len(trials)} of {len(every)} trials, results in {folder}")
    chosen = {trial.slug for trial in trials}
    others = [trial for trial in every if trial.slug not in chosen]
    outcome = run_trials(suite.to_json(overrides), trials, Output(folder), how, others=others)
    return _tell(outcome)


def _tell(outcome: ExperimentOutcome) -> int:
    print(
        f"{outcome.finished} trials finished, {outcome.earlier} had finished before, "
        f"{len(outcome.failures)} failed"
    )
    for name, reason in outcome.failures.items():
        print(f"feddag-lab: failed: {name}: {reason}", file=sys.stderr)
    return 1 if outcome.failures else 0


def _list(_options: argparse.Namespace) -> int:
    for name, path in shipped_suites().items():
        suite = load_suite(path)
        print(f"{name:16s} {suite.num_trials:5d} trials  {suite.description}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from feddag_lab.experiments.tables import write_report  # needs Matplotlib; the rest does not

    try:
        print(write_report(options.results, options.output))
    except DamagedResultsError as error:
        raise DamagedResultsError(f"{options.results}: {error}") from None
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number
