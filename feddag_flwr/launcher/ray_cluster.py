"""A Ray cluster that runs already: where it is, and how the app's code gets to its machines."""

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

AUTO = "auto"
HOST_AND_PORT = re.compile(r"(?P<host>[\w.-]+|\[[\da-fA-F:]+\]):(?P<port>\d{1,5})")
ANSWER_SECONDS = 10.0


def cluster_variables(address: str) -> dict[str, str]:
    """Return the environment variables that make Flower's simulation a job of a Ray cluster.

    Flower calls ``ray.init`` without an address, and Ray then asks the environment for one. The
    machine must itself be a node of the cluster. `address` is ``host:port`` as ``ray start --head``
    prints it, or ``"auto"``: what RAY_ADDRESS of the caller names, and without it a Ray that runs
    on this machine, as Ray finds it.

    Raises
    ------
    ValueError, RuntimeError
        It is no such address; nobody answers there.
    """
    wanted = os.environ.get("RAY_ADDRESS", "") or AUTO if address == AUTO else address
    if wanted != AUTO:
        _check_answers(wanted)
    variables = {
        "RAY_ADDRESS": wanted,
        "RAY_RUNTIME_ENV_HOOK": f"{ship_app.__module__}.{ship_app.__qualname__}",
    }
    if "RAY_TMPDIR" in os.environ:  # where "auto" looks
        variables["RAY_TMPDIR"] = os.environ["RAY_TMPDIR"]
    return variables


def ship_app(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    """Send the app's bundle to every machine of the cluster: the hook of ``ray.init``.

    Without it, clients on other machines would run whatever version is installed there, or none.
    The bundle becomes ``working_dir`` of Ray's runtime environment, the working directory of the
    clients, and comes first on their import path. A `RuntimeError` where Flower has loaded no app.
    """
    from feddag_flwr.flower.private import get_flwr_home  # Ray loads this module for the hook alone

    apps = get_flwr_home().resolve() / "apps"
    bundle = next((path for path in sys.path if apps in Path(path).resolve().parents), None)
    if bundle is None:
        raise RuntimeError(f"no app of {apps} is on the import path")
    return {**(runtime_env or {}), "working_dir": bundle}


def _check_answers(address: str) -> None:
    """Raise at once where Ray would first try for a minute."""
    parts = HOST_AND_PORT.fullmatch(address)
    if parts is None:
        hint = "; a simulation cannot be a remote Ray client" if "://" in address else ""
        raise ValueError(f"Ray address {address!r} is not host:port{hint}")
    try:
        where = (parts["host"].strip("[]"), int(parts["port"]))
        socket.create_connection(where, timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RuntimeError(f"no Ray cluster answers at {address}: {error}") from error
