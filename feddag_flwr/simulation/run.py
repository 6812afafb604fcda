"""One run, from settings to run folder, in this process."""

from __future__ import annotations

from pathlib import Path

from feddag_flwr.engine.runs import open_run
from feddag_flwr.settings import Settings
from feddag_flwr.simulation.apps import CLIENT_APP, load_client_app
from feddag_flwr.simulation.grid import InProcessGrid


def run_in_process(settings: Settings, client_app: str = CLIENT_APP) -> Path:
    """Run a federation in this process; equal to the byte with the same run through Flower.

    Parameters
    ----------
    settings : Settings
        The run's settings. Relative folders start at the working directory.
    client_app : str
        ``package.module:attribute`` of the ClientApp.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    FederationError
        Too few clients could be used, or none ever sent a valid reply.
    FileExistsError
        A run of that name has been there already.
    """
    grid = InProcessGrid(load_client_app(client_app), settings)
    strategy = open_run(settings)
    strategy.start(grid)
    return strategy.folder.path
