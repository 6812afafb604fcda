"""The command ``feddag-lab``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from feddag_flwr.launcher.command import EXIT_FAILED, run_command
from feddag_lab.docker_demo import command as docker_demo

# What the extra ``lab`` installs, by the names of the modules.
EXTRA = ("pandas", "yaml", "torchmetrics")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``feddag-lab``.

    Parameters
    ----------
    arguments : Sequence[str] | None
        The command line, ``None`` for this process's own.

    Returns
    -------
    int
        0 when all went well, 1 when not, 2 for a wrong command line or suite. A signal ends the
        process with 128 plus its number.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        needs = f'needs {" and ".join(missing)}: pip install "feddag-flwr[lab]"'
        print(f"feddag-lab: {needs}", file=sys.stderr)
        return EXIT_FAILED
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    # Both need what the extra installs.
    from feddag_lab.attacks import cli as attacks
    from feddag_lab.demonstration import cli as deploy_demo
    from feddag_lab.experiments import cli as experiments

    parser = argparse.ArgumentParser(prog="feddag-lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    experiments.add_commands(commands)
    attacks.add_command(commands)
    deploy_demo.add_command(commands)
    docker_demo.add_arguments(
        commands.add_parser(
            "docker-demo",
            help="show a federation in containers: a node and the SuperLink are killed",
            description=docker_demo.__doc__,
        )
    )
    return parser
