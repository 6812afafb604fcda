"""FedDAG: clustered federated learning (arXiv 2602.23504) as a Flower application.

What is named in ``__all__`` is the public interface. Each name is imported when it is first used,
so that importing the package costs next to nothing.

Examples
--------
>>> from feddag_flwr import Settings
>>> Settings.from_run_config({"num-clients": 4, "client-groups": 2}).run.num_clients
4
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feddag_flwr.aggregation import Weights
    from feddag_flwr.aggregators import Aggregator
    from feddag_flwr.algorithms.algorithm import Algorithm, RoundPlan, RoundReplies
    from feddag_flwr.algorithms.fedavg.server import FedAvg
    from feddag_flwr.algorithms.feddag.server import FedDAG
    from feddag_flwr.checkpoints import Checkpoint, newest_checkpoint
    from feddag_flwr.data.by_code.context import LoadContext
    from feddag_flwr.federation.context import FederationContext
    from feddag_flwr.inference.served import Served, load_served
    from feddag_flwr.metrics import ArraySpec, Metric
    from feddag_flwr.modalities import Modality, SampleSpec
    from feddag_flwr.objectives import Objective
    from feddag_flwr.observers import Observer, RoundOver, RunOver, RunStarted
    from feddag_flwr.optimisers import Optimiser
    from feddag_flwr.postprocessors import ClientContext, Postprocessor
    from feddag_flwr.sections import Section, prefixed, setting
    from feddag_flwr.settings import Settings, SettingsError
    from feddag_flwr.simulation import run_in_process
    from feddag_flwr.trainers import LocalTrainer, TrainJob, TrainResult

__version__ = "0.2.0"

# From a public name to the module that has it.
_PLACES = {
    "Aggregator": "aggregators",
    "Algorithm": "algorithms.algorithm",
    "ArraySpec": "metrics",
    "Checkpoint": "checkpoints",
    "ClientContext": "postprocessors",
    "FedAvg": "algorithms.fedavg.server",
    "FedDAG": "algorithms.feddag.server",
    "FederationContext": "federation.context",
    "LoadContext": "data.by_code.context",
    "LocalTrainer": "trainers",
    "Metric": "metrics",
    "Modality": "modalities",
    "Objective": "objectives",
    "Observer": "observers",
    "Optimiser": "optimisers",
    "Postprocessor": "postprocessors",
    "RoundOver": "observers",
    "RoundPlan": "algorithms.algorithm",
    "RoundReplies": "algorithms.algorithm",
    "RunOver": "observers",
    "RunStarted": "observers",
    "SampleSpec": "modalities",
    "Section": "sections",
    "Served": "inference.served",
    "Settings": "settings",
    "SettingsError": "settings",
    "TrainJob": "trainers",
    "TrainResult": "trainers",
    "Weights": "aggregation",
    "load_served": "inference.served",
    "newest_checkpoint": "checkpoints",
    "prefixed": "sections",
    "run_in_process": "simulation",
    "setting": "sections",
}

__all__ = [
    "Aggregator",
    "Algorithm",
    "ArraySpec",
    "Checkpoint",
    "ClientContext",
    "FedAvg",
    "FedDAG",
    "FederationContext",
    "LoadContext",
    "LocalTrainer",
    "Metric",
    "Modality",
    "Objective",
    "Observer",
    "Optimiser",
    "Postprocessor",
    "RoundOver",
    "RoundPlan",
    "RoundReplies",
    "RunOver",
    "RunStarted",
    "SampleSpec",
    "Section",
    "Served",
    "Settings",
    "SettingsError",
    "TrainJob",
    "TrainResult",
    "Weights",
    "__version__",
    "load_served",
    "newest_checkpoint",
    "prefixed",
    "run_in_process",
    "setting",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: any public name
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
