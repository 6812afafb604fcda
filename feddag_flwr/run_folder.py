"""What a run leaves behind, in a folder of its own.

========================  ==========================================================================
``settings.json``         all settings
``metrics.jsonl``         one line a round: metrics, who took part, bytes; equal for equal seeds
``seconds.jsonl``         one line a round: seconds by phase, aggregate being a part of train; kept
                          apart, for they never repeat
``proximity.npz``         client names, G, V, A and fusion weights
``clustering.json``       the alpha sweep, assignments, complementarity graph
``state.json``            clients, assignments, sources (see `feddag_flwr.state`)
``models/``               one safetensors file a cluster
``summary.json``          the closing table
========================  ==========================================================================
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.settings import Settings
from feddag_flwr.state import ServerState


class RunFolder:
    """Writes a run's files as they come to be.

    Parameters
    ----------
    settings : Settings
        Names the folder: ``run-dir`` / ``run-name``, by default date, time and algorithm.

    Raises
    ------
    FileExistsError
        A run of that name has been there already.

    Attributes
    ----------
    path : Path
        The folder, once `open` has made it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._parent = Path(settings.run_dir).expanduser().resolve()
        self.path = self._parent / settings.run_name
        if settings.run_name and self.path.exists():
            raise FileExistsError(_taken(self.path))

    def open(self) -> None:
        """Make the folder: once the federation has met, so that a failed start leaves none.

        Without a ``run-name`` the folder is the first free one of name, name-2, name-3, ..
        """
        self._parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        name = self._settings.run_name or f"{stamp}-{self._settings.algorithm}"
        for attempt in itertools.count(1):
            self.path = self._parent / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                self.path.mkdir()
                break
            except FileExistsError:
                if self._settings.run_name:
                    raise FileExistsError(_taken(self.path)) from None
        self.write_json("settings.json", self._settings.to_run_config())

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one JSON file."""
        text = json.dumps(values, indent=2, allow_nan=False)
        (self.path / name).write_text(text + "\n", encoding="utf-8")

    def append_line(self, name: str, values: Mapping[str, Any]) -> None:
        """Append one line to a JSON Lines file."""
        with (self.path / name).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values, allow_nan=False) + "\n")

    def write_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a compressed ``.npz`` file, free of pickled objects."""
        np.savez_compressed(self.path / name, allow_pickle=False, **dict(arrays))

    def write_state(self, state: ServerState) -> None:
        """Write the server's state and the cluster models."""
        state.save(self.path)


def _taken(path: Path) -> str:
    return f"setting run-name = {path.name!r}: {path} exists already"
