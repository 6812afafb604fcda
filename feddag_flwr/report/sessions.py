"""When a run was started, gone on with and ended, and with which versions: ``sessions.jsonl``."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from typing import Any

from feddag_flwr.metrics import Metric

# Distributions whose versions bear on what a run computes.
DISTRIBUTIONS = ("feddag-flwr", "flwr", "torch", "torchvision", "numpy", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Return the versions of Python and of what a run computes with, where installed as such."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an app's code lies bare on a node
            continue
    return found


def started(first_round: int, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Return the line of a start, or of a run that goes on."""
    return {
        "started": _now(),
        "first-round": first_round,
        "versions": versions(),
        "metrics": [
            {"name": m.name, "percent": m.percent, "higher-is-better": m.higher_is_better}
            for m in metrics
        ],
    }


def ended(server_round: int) -> dict[str, Any]:
    """Return the line of an end."""
    return {"ended": _now(), "round": server_round}


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
