"""The aggregator of a run, as its settings want it."""

from __future__ import annotations

from feddag_flwr.aggregators import Aggregator, AssumesLiars
from feddag_flwr.aggregators.limited import Limited
from feddag_flwr.registries import AGGREGATORS
from feddag_flwr.settings import Settings


def make_aggregator(settings: Settings) -> Aggregator:
    """Make the aggregator that ``aggregator`` names, behind the cap of ``max-weight-share``.

    Raises
    ------
    RegistryError
        It cannot be imported or made.
    """
    made: Aggregator = AGGREGATORS.make(settings.run.aggregator)
    if isinstance(made, AssumesLiars):
        made.assumed_liars = settings.deployment.assumed_liars
    most = settings.deployment.max_weight_share
    return made if most == 1.0 else Limited(made, most)
