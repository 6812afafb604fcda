"""One simulation through Flower's own SuperLink and command line, from start to clean end."""

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import IO

from feddag_flwr.flower.commands import (
    Echo,
    free_ports,
    pause,
    read_log,
    spawn,
    tail,
    wait_listening,
)
from feddag_flwr.flower.machine import count_gpus, usable_cores
from feddag_flwr.flower.private_home import private_home
from feddag_flwr.flower.processes import child_environment
from feddag_flwr.flower.run_config import Value, complete_overrides, read_defaults, write_overrides
from feddag_flwr.flower.run_status import (
    COMPLETED,
    FINISHED,
    LOST,
    NOT_STARTED,
    TIMED_OUT,
    RunOutcome,
    parse_status,
)
from feddag_flwr.launcher.ray_cluster import cluster_variables

CONNECTION = "feddag"
START_ATTEMPTS = 3
STATUS_POLL_SECONDS = 1.0


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

    A failure of the app is an outcome, not an exception.

    Parameters
    ----------
    app_dir : Path
        The folder of the app's ``pyproject.toml``.
    run_config : Mapping[str, Value]
        Settings that differ from the app's own.
    num_supernodes : int
        The number of simulated clients.
    cpus : int | None
        What Ray may use, by default all that this process may; cpus / cpus_per_client clients run
        at once. What `num_supernodes` clients have no use for is left alone.
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

    Raises
    ------
    ValueError
        The app, a setting of ``run_config``, ``cpus``, ``ray_address`` or the share of a GPU is not
        as it must be.
    RuntimeError
        Flower's SuperLink does not start, or nobody answers at ``ray_address``.
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
        federation["init-args-num-cpus"] = _own_cpus(cpus, cpus_per_client, num_supernodes)
        _check_gpus(gpus_per_client)
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
        log = read_log(home / "stream.log")
    seconds = time.monotonic() - started
    return RunOutcome(status == COMPLETED, status, details, seconds, log)


def _own_cpus(cpus: int | None, cpus_per_client: int, num_supernodes: int) -> int:
    """Return the CPUs of a Ray that is started for one run: Flower starts actors for all of them.

    Each actor keeps several hundred MB, whether a client is left for it or not.
    """
    if cpus is None:
        cpus = max(usable_cores(), cpus_per_client)
    if cpus < cpus_per_client:
        raise ValueError(f"cpus is {cpus}; it must be at least cpus_per_client, {cpus_per_client}")
    return min(cpus, num_supernodes * cpus_per_client)


def _check_gpus(gpus_per_client: float) -> None:
    """Refuse a share that Ray could never hand out."""
    if gpus_per_client <= 0:
        return
    if gpus_per_client > 1 and gpus_per_client != int(gpus_per_client):
        raise ValueError(f"gpus_per_client is {gpus_per_client:g}; above 1 it must be whole")
    if gpus_per_client > (gpus := count_gpus()):
        raise ValueError(
            f"gpus_per_client is {gpus_per_client:g}; PyTorch finds {gpus or 'no'} GPU here"
        )


def _start_superlink(home: Path, deadline: float, cluster: Mapping[str, str] | None) -> None:
    """Start a SuperLink on free ports and write the connection to it; return when it listens."""
    for _ in range(START_ATTEMPTS):
        control, runtime = free_ports(2)
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
        if wait_listening(superlink, {control, runtime}, deadline):
            return
    raise RuntimeError(f"flower-superlink did not start:\n{tail(read_log(home / 'superlink.log'))}")


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
        pause(deadline)
    while flower.poll() is None:
        pause(deadline)
    while (status := _ask_status(home, deadline)) and not status[0].startswith(FINISHED):
        pause(deadline, STATUS_POLL_SECONDS)
    return status or (NOT_STARTED, tail(read_log(home / "stream.log")))


def _ask_status(home: Path, deadline: float) -> tuple[str, str] | None:
    answer_path = home / "status.json"
    with answer_path.open("w", encoding="utf-8") as answer:
        process = _spawn(home, "flwr", ["ls", CONNECTION, "--format", "json"], answer)
        while process.poll() is None:
            pause(deadline)
    return parse_status(read_log(answer_path))


def _pump(process: subprocess.Popen[str], path: Path, stream: IO[str] | None) -> None:
    """Copy the output of a process, as it comes, to a file and to a stream."""
    assert process.stdout is not None
    with closing(Echo(path, stream)) as echo:
        for line in process.stdout:
            echo.write(line)


def _spawn(
    home: Path,
    name: str,
    arguments: list[str],
    output: int | IO[str],
    cluster: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    environment = child_environment(home, cluster)
    return spawn(name, arguments, output, folder=home, environment=environment)


def _copy_logs(home: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in home.glob("*.log"):
        shutil.copy(path, target)
    for folder in home.glob("ray/session_[0-9]*/logs"):
        shutil.copytree(folder, target / "ray", dirs_exist_ok=True, ignore_dangling_symlinks=True)
