"""A whole federation in this process: the real ClientApp and strategies, no Ray, no SuperLink."""

from feddag_flwr.engine.runs import check_parts
from feddag_flwr.simulation.grid import InProcessGrid
from feddag_flwr.simulation.run import CLIENT_APP, load_client_app, run_in_process

__all__ = ["CLIENT_APP", "InProcessGrid", "check_parts", "load_client_app", "run_in_process"]
