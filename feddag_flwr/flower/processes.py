"""The processes of a simulation or deployment: their environment, how to find and to end them.

Flower detaches its SuperExec into a session of its own, so the SuperLink's process group does not
hold them together. What does is the private ``FLWR_HOME`` that each process inherits. Ray's agents
overwrite their environment with their title; descent and session tell where those belong.
"""

import os
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

HOME_VARIABLE = "FLWR_HOME"
GRACE_SECONDS = 3.0
KILL_SECONDS = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def child_environment(home: Path, cluster: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of processes of Flower's, cut off from other Flower and Ray in use.

    `home`, their ``FLWR_HOME``, is the private folder or one inside it. `cluster` is what Ray needs
    to join a cluster that runs already; without it Ray lives in `home`.
    """
    foreign = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_ID")
    environment = {key: value for key, value in os.environ.items() if key not in foreign}
    # Ray announces a later version's treatment of GPUs to everyone who gives its clients none.
    warnings = [os.environ.get("PYTHONWARNINGS"), "ignore::FutureWarning:ray._private.worker"]
    environment.update(
        {
            HOME_VARIABLE: str(home),
            "PATH": _search_path(),
            "COLUMNS": str(shutil.get_terminal_size((120, 24)).columns),
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": ",".join(filter(None, warnings)),
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            **_module_path(),
            **loopback_without_proxy(os.environ),
            **({"RAY_TMPDIR": str(home)} if cluster is None else cluster),
        }
    )
    return environment


def _module_path() -> dict[str, str]:
    """Return PYTHONPATH as the caller means it: these processes run in another folder."""
    given = os.environ.get("PYTHONPATH")
    if not given:
        return {}
    return {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, given.split(os.pathsep)))}


def loopback_without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables with which processes of one machine reach each other past every proxy.

    Whoever is excepted from proxies in `environment` stays so. ``no_proxy`` and ``NO_PROXY`` are
    for HTTP, ``no_grpc_proxy`` for gRPC.
    """
    given = _hosts(environment.get("no_proxy") or environment.get("NO_PROXY", ""))
    for_grpc = _hosts(environment.get("no_grpc_proxy", "")) or given
    # An asterisk must stand alone for Python's HTTP; gRPC does not know it.
    hosts = "*" if "*" in given else _joined(given)
    return {"no_proxy": hosts, "NO_PROXY": hosts, "no_grpc_proxy": _joined(for_grpc)}


def _hosts(text: str) -> list[str]:
    return [host.strip() for host in text.split(",") if host.strip()]


def _joined(hosts: list[str]) -> str:
    return ",".join(dict.fromkeys([*hosts, *LOOPBACK]))


def executable(name: str) -> str:
    """Return the absolute path of a command of this Python environment, or of PATH."""
    path = shutil.which(name, path=_search_path())
    if path is None:
        raise FileNotFoundError(f"no {name!r} beside {sys.executable}: is flwr installed there?")
    return path


def _search_path() -> str:
    """Return PATH with this environment's scripts in front: Flower starts its own by bare name."""
    folders = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    return os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])


def find_processes(home: Path, known: Iterable[psutil.Process] = ()) -> set[psutil.Process]:
    """Return the living processes that belong to a private folder, none of the caller's session.

    A process belongs to it whose ``FLWR_HOME`` is that folder or inside it, and so do its
    descendants and all others of its session, and those `known`, found before, which may have lost
    all three marks since. Zombies do not count.
    """
    parents: dict[psutil.Process, int] = {}
    sessions: dict[psutil.Process, int] = {}
    marked = {process for process in known if _alive(process)}
    for process in psutil.process_iter():
        try:
            parents[process], sessions[process] = process.ppid(), os.getsid(process.pid)
            value = process.environ().get(HOME_VARIABLE)
            if value and Path(value).is_relative_to(home):
                marked.add(process)
        except (psutil.Error, OSError):
            continue
    own_session = os.getsid(0)
    before = -1
    while before < len(marked):
        before = len(marked)
        pids = {process.pid for process in marked}
        shared = {sessions[process] for process in marked if process in sessions} - {own_session}
        marked |= {p for p in parents if parents[p] in pids or sessions.get(p) in shared}
    return {p for p in marked if sessions.get(p) != own_session and _alive(p)}


def end_processes(home: Path) -> None:
    """End every process of a private folder: politely first, then by force, until none is left."""
    processes = find_processes(home)
    _signal_all(processes, signal.SIGTERM)
    psutil.wait_procs(processes, timeout=GRACE_SECONDS)
    deadline = time.monotonic() + KILL_SECONDS
    while (processes := find_processes(home, processes)) and time.monotonic() < deadline:
        _signal_all(processes, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=0.5)


def _signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
