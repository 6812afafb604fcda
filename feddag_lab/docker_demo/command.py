"""Show the containers at work: build, run, kill a node and then the SuperLink, clean up.

Needs Python 3.11 and a Docker engine, nothing else. Exits with 0 if all went as promised, 1 if not,
and 77, with a line that says why, where no Docker engine can be had.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from feddag_lab.docker_demo.engine import NoEngineError, Project, find_engine
from feddag_lab.docker_demo.progress import StepTable, say
from feddag_lab.docker_demo.steps import ContainerDemo

EXIT_USAGE = 2
EXIT_SKIPPED = 77
DOWN_SECONDS = 120.0
# The image's own user; a person who is not root uses their own number instead.
IMAGE_USER = 10001
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def federation_folder() -> Iterator[tuple[Path, str]]:
    """Give a folder for keys and data, and the user who owns it; remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="feddag-docker-") as folder:
        user, group = os.getuid(), os.getgid()
        if user == 0:
            user = group = IMAGE_USER
            os.chown(folder, user, group)
        yield Path(folder), f"{user}:{group}"


def demonstrate(compose_file: Path, device: str, minutes: float) -> int:
    """Run the demonstration; return the exit status."""
    table = StepTable()
    with federation_folder() as (folder, user):
        environment = {
            "FEDDAG_DEVICE": device,
            "FEDDAG_FEDERATION": str(folder),
            "FEDDAG_USER": user,
        }
        deadline = time.monotonic() + 60 * minutes
        project = Project(f"feddag-demo-{os.getpid()}", compose_file, environment, deadline)
        failure = "interrupted"
        try:
            demonstration = ContainerDemo(project, table, deadline)
            demonstration.build(f"feddag-flwr:{device}")
            demonstration.start()
            demonstration.run()
            failure = ""
        except (RuntimeError, TimeoutError) as error:
            failure = str(error)
            print_logs(project)
        finally:
            with uninterrupted():
                left = clean_up(project, table)
                failure = failure or left
                print(f"\n{table.text()}\n", flush=True)
                say(f"FAILED: {failure}" if failure else "all went as promised")
    return 1 if failure else 0


def print_logs(project: Project) -> None:
    """Show the end of every container's log."""
    try:
        print(project.compose("logs", "--no-color", "--tail", "40", seconds=60), flush=True)
    except (RuntimeError, TimeoutError) as error:
        say(f"no logs: {error}")


def clean_up(project: Project, table: StepTable) -> str:
    """Remove containers, volumes and network; return what is wrong, else an empty text."""
    start = time.monotonic()
    try:
        project.compose(
            "down", "--volumes", "--remove-orphans", "--timeout", "10", seconds=DOWN_SECONDS
        )
        left = project.left_behind()
    except (RuntimeError, TimeoutError) as error:
        return str(error)
    table.add("down", f"left behind: {', '.join(left) or 'nothing'}", time.monotonic() - start)
    return f"left behind: {', '.join(left)}" if left else ""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore requests to stop while all is cleared away."""
    before = [signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(STOP_SIGNALS, before, strict=True):
            signal.signal(number, handler)


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the demonstration's options."""
    parser.add_argument("app_dir", nargs="?", type=Path, default=Path(), metavar="APP_DIR",
                        help="folder of docker/compose.yaml; default: the current one")  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all of it; default: 30")
    parser.set_defaults(handler=run)


def run(options: argparse.Namespace) -> int:
    """Find an engine, run the demonstration; return the exit status."""
    compose_file = options.app_dir.resolve() / "docker" / "compose.yaml"
    if not compose_file.is_file():
        print(f"docker-demo: there is no {compose_file}", file=sys.stderr)
        return EXIT_USAGE
    for number in STOP_SIGNALS:
        signal.signal(number, _exit_on_signal)
    try:
        find_engine([sys.executable, *sys.orig_argv[1:]])
        return demonstrate(compose_file, options.device, options.minutes)
    except NoEngineError as error:
        print(f"SKIP: {error}", flush=True)
        return EXIT_SKIPPED
