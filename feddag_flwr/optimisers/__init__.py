"""What takes the steps of local training: one file each, and a line in `feddag_flwr.registries`."""

from feddag_flwr.optimisers.optimiser import MakeOptimiser, Optimiser

__all__ = ["MakeOptimiser", "Optimiser"]
