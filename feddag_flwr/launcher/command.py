"""How a command of this project runs: its signals, its errors and its exit status."""

import argparse
import io
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from feddag_flwr.flower.run_status import TIMED_OUT, RunOutcome

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TIMED_OUT = 124
EXIT_SIGNALLED = 128
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def exit_status(outcome: RunOutcome) -> int:
    """Return 0 for a run that completed, 124 for one whose time was over, 1 for one that failed."""
    if outcome.succeeded:
        return 0
    return EXIT_TIMED_OUT if outcome.status == TIMED_OUT else EXIT_FAILED


def run_command(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Read the command line and call the handler that its sub-command has set.

    The status is what the handler returns; 2 for its ``ValueError``, 1 for another error that it
    foresees, told in one line. A signal ends the process with 128 plus its number.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no name of a scenario may end an experiment
            stream.reconfigure(errors="backslashreplace")
    options = parser.parse_args(arguments)
    for name in STOP_SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _exit_on_signal)
    try:
        status: int = options.handler(options)
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (RuntimeError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return status


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(EXIT_SIGNALLED + number)
