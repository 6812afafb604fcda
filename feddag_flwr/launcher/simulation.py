"""One simulation through Flower's own SuperLink and command line, from start to clean end."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from feddag_flwr.launcher.processes import child_environment, executable, private_home
from feddag_flwr.launcher.ray_cluster import cluster_variables
from feddag_flwr.launcher.settings import (
    Value,
    complete_overrides,
    read_defaults,
    write_overrides,
)

CONNECTION = "feddag"
COMPLETED = "finished:completed"
TIMED_OUT = "timed-out"
NOT_STARTED = "not-started"
LOST = "lost"
START_ATTEMPTS = 3
POLL_SECONDS = 0.1
STATUS_POLL_SECONDS = 1.0
ANSI_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class RunOutcome:
    """How a simulation ended.

    Parameters
    ----------
    succeeded : bool
        Whether Flower calls the run completed. A ClientApp's error does not change that.
    status : str
        Flower's own, such as ``"finished:failed"``; or ``"timed-out"``; or ``"not-started"``
        when Flower refused the app; or ``"lost"`` when Flower itself did not survive the run.
    details : str
        Why it did not succeed, else empty.
    seconds : float
        From the call to the end of its last process.
    log : str
        What was streamed, without colours.
    """

    succeeded: bool
    status: str
    details: str
    seconds: float
    log: str


def run_simulation(
    app_dir: Path,
    run_config: Mapping[str, Value],
    *,
    num_supernodes: int,
    cpus: int | None = None,
    cpus_per_client: int = 1,
    gpus_per_client: float = 0.0,
    ray_address: str | None = None,
    timeout: float | None = None,
    stream: IO[str] | None = None,
    keep_logs: Path | None = None,
) -> RunOutcome:
    """Run a Flower app in simulation and leave no process and no file of Flower's behind.

    Parameters
    ----------
    app_dir : Path
        The folder of the app's ``pyproject.toml``.
    run_config : Mapping[str, Value]
        Settings that differ from the app's own.
    num_supernodes : int
        The number of simulated clients.
    cpus : int | None
        What Ray may use, ``None`` for all of the machine; cpus / cpus_per_client run at once.
    cpus_per_client, gpus_per_client : int, float
        The share of one running client.
    ray_address : str | None
        A Ray cluster that runs already, see `ray_cluster`; ``None`` starts one for this run.
    timeout : float | None
        In seconds, for the whole run.
    stream : IO[str] | None
        Where the log goes, line by line, while the run goes on.
    keep_logs : Path | None
        A folder for the logs of Flower and Ray.

    Returns
    -------
    RunOutcome
        How it ended: a failure of the app is an outcome, not an exception.

    Raises
    ------
    ValueError
        If the folder holds no Flower app, the app lacks a setting of ``run_config``, ``cpus`` is
        too small for one client or given beside ``ray_address``, or that is no address.
    RuntimeError
        If Flower's SuperLink does not start, or nobody answers at ``ray_address``.
    """
    started = time.monotonic()
    deadline = started + timeout if timeout is not None else float("inf")
    federation = {
        "num-supernodes": num_supernodes,
        "client-resources-num-cpus": cpus_per_client,
        "client-resources-num-gpus": float(gpus_per_client),
    }
    cluster = None
    if ray_address is None:
        federation["init-args-num-cpus"] = _own_cpus(cpus, cpus_per_client)
    elif cpus is not None:
        raise ValueError("cpus is for a Ray of one's own; a cluster has the CPUs that it has")
    else:
        cluster = cluster_variables(ray_address)
    overrides = complete_overrides(run_config, read_defaults(app_dir), Path.cwd())
    with private_home() as home:
        try:
            write_overrides(overrides, home / "run-config.toml")
            _start_superlink(home, deadline, cluster)
            status, details = _stream_run(home, app_dir, federation, stream, deadline)
        except TimeoutError:
            status, details = TIMED_OUT, f"still going after {timeout} s"
        except ConnectionError as error:
            status, details = LOST, str(error)
        finally:
            if keep_logs is not None:
                _copy_logs(home, keep_logs)
        log = _read(home / "stream.log")
    seconds = time.monotonic() - started
    return RunOutcome(status == COMPLETED, status, details, seconds, log)


def parse_status(output: str) -> tuple[str, str] | None:
    """Read what ``flwr ls --format json`` says of the only run.

    Parameters
    ----------
    output : str
        What it printed.

    Returns
    -------
    tuple[str, str] | None
        Status and details, or ``None`` when there is no run.

    Raises
    ------
    ConnectionError
        If Flower could not say.
    """
    plain = ANSI_STYLE.sub("", output)
    try:
        runs = json.loads(plain[plain.index("{") :])["runs"]
        if not runs:
            return None
        details = runs[0]["status-details"]
        return runs[0]["status"], "" if details == "N/A" else details
    except (KeyError, ValueError) as error:
        raise ConnectionError(f"flwr ls gave no status but {plain.strip()!r}") from error


def _own_cpus(cpus: int | None, cpus_per_client: int) -> int:
    """Return the CPUs of a Ray that is started for one run."""
    if cpus is None:
        return max(os.cpu_count() or 1, cpus_per_client)
    if cpus < cpus_per_client:
        raise ValueError(f"cpus is {cpus}; it must be at least cpus_per_client, {cpus_per_client}")
    return cpus


def _start_superlink(home: Path, deadline: float, cluster: Mapping[str, str] | None) -> None:
    """Start a SuperLink on free ports and write the connection to it; return when it listens."""
    for _ in range(START_ATTEMPTS):
        control, runtime = _free_ports()
        address = f"127.0.0.1:{control}"
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n'
            f'[superlink.{CONNECTION}]\naddress = "{address}"\ninsecure = true\n',
            encoding="utf-8",
        )
        arguments = ["--insecure", "--simulation", "--isolation", "subprocess"]
        arguments += ["--control-api-address", address]
        arguments += ["--host", "127.0.0.1", "--port", str(runtime)]
        with (home / "superlink.log").open("a", encoding="utf-8") as log:
            superlink = _spawn(home, "flower-superlink", arguments, log, cluster)
        if _wait_listening(superlink, {control, runtime}, deadline):
            return
    raise RuntimeError(f"flower-superlink did not start:\n{_tail(_read(home / 'superlink.log'))}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _wait_listening(process: subprocess.Popen[str], ports: set[int], deadline: float) -> bool:
    """Wait until a process, and no other, serves the ports; ``False`` when it ends before."""
    while process.poll() is None:
        try:
            connections = psutil.Process(process.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        if ports <= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}:
            return True
        _pause(deadline)
    return False


def _stream_run(
    home: Path,
    app_dir: Path,
    federation: Mapping[str, float],
    stream: IO[str] | None,
    deadline: float,
) -> tuple[str, str]:
    """Submit the app, pass its log on until it ends, and return its status and the details."""
    arguments = ["run", str(app_dir.resolve()), CONNECTION, "--stream"]
    if (home / "run-config.toml").stat().st_size:
        arguments += ["--run-config", str(home / "run-config.toml")]
    settings = " ".join(f"{key}={value}" for key, value in federation.items())
    flower = _spawn(home, "flwr", [*arguments, "--federation-config", settings], subprocess.PIPE)
    pump = threading.Thread(target=_pump, args=(flower, home / "stream.log", stream), daemon=True)
    pump.start()
    while pump.is_alive():
        _pause(deadline)
    while flower.poll() is None:
        _pause(deadline)
    while (status := _ask_status(home, deadline)) and not status[0].startswith("finished"):
        _pause(deadline, STATUS_POLL_SECONDS)
    return status or (NOT_STARTED, _tail(_read(home / "stream.log")))


def _ask_status(home: Path, deadline: float) -> tuple[str, str] | None:
    answer_path = home / "status.json"
    with answer_path.open("w", encoding="utf-8") as answer:
        process = _spawn(home, "flwr", ["ls", CONNECTION, "--format", "json"], answer)
        while process.poll() is None:
            _pause(deadline)
    return parse_status(_read(answer_path))


def _pump(process: subprocess.Popen[str], path: Path, stream: IO[str] | None) -> None:
    """Copy the output of a process, as it comes, to a file and to a stream that may go away."""
    assert process.stdout is not None
    coloured = stream is not None and stream.isatty()
    with path.open("w", encoding="utf-8") as log:
        for line in process.stdout:
            plain = ANSI_STYLE.sub("", line)
            log.write(plain)
            log.flush()
            if stream is not None:
                try:
                    stream.write(line if coloured else plain)
                    stream.flush()
                except (OSError, ValueError):
                    stream = None


def _spawn(
    home: Path,
    name: str,
    arguments: list[str],
    output: int | IO[str],
    cluster: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command of Flower's in the private folder, where no other project shadows the app."""
    return subprocess.Popen(
        [executable(name), *arguments],
        cwd=home,
        env=child_environment(home, cluster),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def _pause(deadline: float, seconds: float = POLL_SECONDS) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError
    time.sleep(seconds)


def _copy_logs(home: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in home.glob("*.log"):
        shutil.copy(path, target)
    for folder in home.glob("ray/session_[0-9]*/logs"):
        shutil.copytree(folder, target / "ray", dirs_exist_ok=True, ignore_dangling_symlinks=True)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.splitlines()[-lines:])
