"""How the updates of many clients become one (setting ``aggregator``)."""

from feddag_flwr.aggregators.aggregator import Aggregator
from feddag_flwr.registry import Registry

AGGREGATORS: Registry[type[Aggregator]] = Registry(
    "aggregator", {"mean": "feddag_flwr.aggregators.mean:Mean"}
)

__all__ = ["AGGREGATORS", "Aggregator"]
