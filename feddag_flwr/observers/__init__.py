"""What watches a run from outside (setting ``observers``): files, progress, trackers."""

from feddag_flwr.observers.observer import Observer, RoundOver, RunOver, RunStarted
from feddag_flwr.registry import Registry

OBSERVERS: Registry[type[Observer]] = Registry(
    "observers",
    {
        "progress": "feddag_flwr.observers.progress:Progress",
        "round-log": "feddag_flwr.observers.round_log:RoundLog",
        "checkpoints": "feddag_flwr.observers.checkpoints:Checkpoints",
        "closing-table": "feddag_flwr.observers.closing_table:ClosingTable",
    },
)

__all__ = ["OBSERVERS", "Observer", "RoundOver", "RunOver", "RunStarted"]
