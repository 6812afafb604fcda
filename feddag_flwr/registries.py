"""The parts that settings name, one line each; what has to be imported is, once it is asked for."""

from __future__ import annotations

from typing import Any

from feddag_flwr.registry import Registry

OBJECTIVES: Registry[Any] = Registry(
    "objective", {"cross-entropy": "feddag_flwr.objectives.cross_entropy:CROSS_ENTROPY"}
)
OPTIMISERS: Registry[Any] = Registry("optimiser", {"sgd": "feddag_flwr.optimisers.sgd:SGD"})
POSTPROCESSORS: Registry[Any] = Registry(
    "postprocessors", {"transport": "feddag_flwr.postprocessors.transport:Transport"}
)
TRAINERS: Registry[Any] = Registry(
    "trainer", {"sequential": "feddag_flwr.trainers.sequential:SEQUENTIAL"}
)
