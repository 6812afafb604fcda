"""One run, from settings to run folder, in this process."""

import importlib
from pathlib import Path

from flwr.clientapp import ClientApp

from feddag_flwr.engine.runs import open_run
from feddag_flwr.settings import Settings
from feddag_flwr.simulation.grid import InProcessGrid

# What this project's pyproject.toml says; a test holds the two together.
CLIENT_APP = "client_app.app:app"


def run_in_process(settings: Settings, client_app: str = CLIENT_APP) -> Path:
    """Run a federation in this process; equal to the byte with the same run through Flower.

    Parameters
    ----------
    settings : Settings
        Relative folders start at the working directory.
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


def load_client_app(reference: str = CLIENT_APP) -> ClientApp:
    """Import a ClientApp as Flower does, by ``package.module:attribute``."""
    module, _, attribute = reference.partition(":")
    if not module or not attribute:
        raise ValueError(f"client app {reference!r}: expected package.module:attribute")
    app = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(app, ClientApp):
        raise ValueError(f"client app {reference!r}: {type(app).__name__}, expected a ClientApp")
    return app
