"""The ServerApp: validates the settings, then lets the chosen strategy run."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from feddag_flwr.engine.runs import open_run
from feddag_flwr.settings import Settings

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one federation from the roll call to the closing table.

    Raises
    ------
    SettingsError
        Before any message is sent, naming every setting at fault.
    """
    settings = Settings.from_run_config(context.run_config)
    open_run(settings).start(grid)
