"""What a worker does for a trial: the functions that jobs name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.launcher import run_simulation
from feddag_flwr.simulation import run_in_process
from feddag_lab.experiments.machine import visible_gpus
from feddag_lab.experiments.product import Settings, SettingValue


def check_data(run_config: dict[str, SettingValue]) -> None:
    """Load the first client's data, so that missing data and impossible splits are found early.

    Raises
    ------
    DataError
        Says what is wrong.
    """
    settings = Settings.from_run_config(run_config)
    load_client_data(settings, {"partition-id": 0, "num-partitions": settings.run.num_clients})


def in_process(run_config: dict[str, SettingValue]) -> None:
    """Run a trial in this process."""
    run_in_process(Settings.from_run_config(run_config))


def through_flower(run_config: dict[str, SettingValue], app_dir: str) -> None:
    """Run a trial through the real ``flwr run``.

    Parameters
    ----------
    run_config : dict
        The trial's settings.
    app_dir : str
        Folder of the app's ``pyproject.toml``.

    Raises
    ------
    RuntimeError
        The run failed; its log says why.
    """
    os.environ.pop("PYTHONFAULTHANDLER", None)  # for this worker, not for Ray's
    outcome = run_simulation(
        Path(app_dir),
        run_config,
        num_supernodes=Settings.from_run_config(run_config).run.num_clients,
        gpus_per_client=1.0 if visible_gpus() else 0.0,
        stream=sys.stdout,
    )
    if not outcome.succeeded:
        raise RuntimeError(f"the run is {outcome.status}: {outcome.details}")
