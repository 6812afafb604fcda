"""One command, or one call, for one simulation through the real Flower."""

from feddag_flwr.flower.run_status import RunOutcome
from feddag_flwr.launcher.cli import main
from feddag_flwr.launcher.simulation import run_simulation

__all__ = ["RunOutcome", "main", "run_simulation"]
