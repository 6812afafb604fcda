"""What local training minimises: one file each, and a line in `feddag_flwr.registries`."""

from feddag_flwr.objectives.objective import Objective

__all__ = ["Objective"]
