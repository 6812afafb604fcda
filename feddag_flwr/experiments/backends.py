"""What a worker does for a cell: the functions that jobs name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import tomli_w

from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.experiments.machine import visible_gpus
from feddag_flwr.settings import Settings, SettingValue
from feddag_flwr.simulation import run_in_process


def check_data(run_config: dict[str, SettingValue]) -> None:
    """Load the first client's data, so that missing data and impossible splits are found early.

    Raises
    ------
    DataError
        Says what is wrong.
    """
    settings = Settings.from_run_config(run_config)
    load_client_data(settings, {"partition-id": 0, "num-partitions": settings.num_clients})


def in_process(run_config: dict[str, SettingValue]) -> None:
    """Run a cell in this process."""
    run_in_process(Settings.from_run_config(run_config))


def through_flower(run_config: dict[str, SettingValue], app_dir: str) -> None:
    """Run a cell through the real ``flwr run``.

    Parameters
    ----------
    run_config : dict
        The cell's settings.
    app_dir : str
        Folder of the app's ``pyproject.toml``.

    Raises
    ------
    RuntimeError
        The run failed; its log says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run-config.toml"
        path.write_text(tomli_w.dumps(run_config), encoding="utf-8")
        command = [sys.executable, "-m", "feddag_flwr.launcher", "run", app_dir]
        gpus = ["--gpus-per-client", "1"] if visible_gpus() else []
        process = subprocess.Popen(
            [*command, "--run-config", str(path), *gpus],
            stdin=subprocess.DEVNULL,
            env={key: value for key, value in os.environ.items() if key != "PYTHONFAULTHANDLER"},
        )
        try:
            status = process.wait()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # it ends Flower's processes
                process.wait()
    if status:
        raise RuntimeError(f"feddag-flwr run ended with status {status}")
