"""The demonstration: a federation with TLS and keys, its simulation, and who gets nowhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.flower.private_home import private_home
from feddag_flwr.flower.run_config import Value, read_defaults
from feddag_flwr.flower.run_status import RunOutcome
from feddag_flwr.settings import Settings
from feddag_flwr.state import ServerState
from feddag_lab.demonstration.comparison import compare_states
from feddag_lab.demonstration.examples import Example
from feddag_lab.demonstration.federation import Federation, federation
from feddag_lab.demonstration.refusals import Refusal, prepare_intruders

TABLE_WIDTH = 110


@dataclass(frozen=True)
class DeployDemo:
    """What to show.

    Attributes
    ----------
    app_dir : Path
        The folder of the app's ``pyproject.toml``.
    example : Example
        What is trained on.
    run_dir : Path
        Where the run folder goes, the only thing that is left.
    rounds : int
        Rounds of the run, four at least: intruders come while it goes on.
    insecure : bool
        Neither TLS nor keys.
    timeout : float
        Seconds for the run.
    keep_logs : Path | None
        A folder for the logs of all processes.
    """

    app_dir: Path
    example: Example
    run_dir: Path
    rounds: int = 4
    insecure: bool = False
    timeout: float = 1800.0
    keep_logs: Path | None = None

    def show(self) -> bool:
        """Run it all, print what happens, and leave no process.

        Returns
        -------
        bool
            Whether the run completed, equals its simulation to the bit, and nobody got in.
        """
        with private_home() as folder:
            parts = self.example.write(folder)
            outcome, refusals = self._deploy(parts)
            _say(f"the run is {outcome.status} after {outcome.seconds:.1f} s {outcome.details}")
            if not outcome.succeeded:
                return False
            run_folder = _run_folder(outcome)
            _say("now the simulation of the same parts, names, settings and seed, in this process")
            simulated = self._simulate(folder)
        deployed = newest_checkpoint(run_folder).state
        comparison = compare_states(deployed, simulated)
        members = set(deployed.clients)
        _print_refusals(refusals)
        _say(f"clients of the run: {', '.join(sorted(members))}")
        _say(f"final models of deployment and simulation: {comparison}")
        _say(f"run folder: {run_folder}")
        return comparison.equal and members == set(parts) and all(r.refused for r in refusals)

    def _deploy(self, parts: Mapping[str, Path]) -> tuple[RunOutcome, list[Refusal]]:
        with federation(insecure=self.insecure) as made, _logs_kept(made, self.keep_logs):
            _say(f"SuperLink at {made.fleet_address}, {_how_safe(made)}, state in SQLite")
            for name, path in parts.items():
                node = made.add_node(name, {"client-name": name, "data-path": str(path)})
                _say(f"{name} on {path.name}" + (f", node {node.node_id}" if node.node_id else ""))
            victim = next(iter(parts))
            intruders = prepare_intruders(made, victim, parts[victim])
            run = made.submit(self.app_dir, self._run_config(), sys.stdout)
            _say(f"run {run.run_id} is submitted")
            run.wait_for("clusters at threshold", self.timeout)
            for intruder in intruders:
                _say(f"meanwhile: {intruder.tries}")
                intruder.node.start()
            outcome = run.wait(self.timeout)
            refusals = (
                [intruder.await_refusal() for intruder in intruders] if outcome.succeeded else []
            )
        return outcome, refusals

    def _run_config(self) -> dict[str, Value]:
        return {
            **self.example.settings,
            "participation": 1.0,
            "num-rounds": self.rounds,
            "evaluate-every": self.rounds,
            "identity": "name" if self.insecure else "node",
            "run-dir": str(self.run_dir.resolve()),
        }

    def _simulate(self, folder: Path) -> ServerState:
        from feddag_flwr.simulation import run_in_process  # PyTorch takes seconds

        own = {"data-dir": str(folder), "run-dir": str(folder / "runs")}
        config = {**read_defaults(self.app_dir), **self._run_config(), **own}
        return newest_checkpoint(run_in_process(Settings.from_run_config(config))).state


def _run_folder(outcome: RunOutcome) -> Path:
    """Return the folder that the closing lines name."""
    named = [line for line in outcome.log.splitlines() if "run folder: " in line]
    return Path(named[-1].partition("run folder: ")[2].strip())


def _how_safe(made: Federation) -> str:
    return "insecure: no TLS, no keys" if made.insecure else "TLS, node authentication"


@contextmanager
def _logs_kept(made: Federation, target: Path | None) -> Iterator[None]:
    """Copy the logs of all processes before they are cleared away."""
    try:
        yield
    finally:
        if target is not None:
            target.mkdir(parents=True, exist_ok=True)
            for path in made.home.rglob("*.log"):
                shutil.copy(path, target)


def _print_refusals(refusals: list[Refusal]) -> None:
    table = Table(title="Who got nowhere", title_justify="left", show_lines=True)
    table.add_column("tried", ratio=2)
    table.add_column("was told", ratio=3)
    for tries, answer, _ in refusals:
        table.add_row(tries, answer)
    console = Console(width=TABLE_WIDTH, no_color=True, markup=False, highlight=False)
    console.print(table)


def _say(text: str) -> None:
    print(f"deploy-demo: {text.strip()}", flush=True)
