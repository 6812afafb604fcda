"""What this machine offers to workers: memory and GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

MIB = 2**20
# A worker with PyTorch and a data set of 60,000 grey images, before one was measured.
FIRST_GUESS_MIB = 1500.0
CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Return the memory in MiB that can be taken without swapping, within a container's limit."""
    available = float(psutil.virtual_memory().available)
    limit, used = _first_number(CGROUP / "memory.max"), _first_number(CGROUP / "memory.current")
    if limit is not None and used is not None:
        available = min(available, limit - used)
    return available / MIB


def has_room(pids: Sequence[int], peak: float | None) -> bool:
    """Return whether one more worker fits into memory beside those with these `pids`.

    Parameters
    ----------
    pids : sequence of int
        Workers at work; each may still grow to `peak`.
    peak : float or None
        Largest memory of a worker so far, in MiB; None: not known yet.
    """
    need = FIRST_GUESS_MIB if peak is None else 1.1 * peak
    growth = sum(max(0.0, need - _resident(pid)) for pid in pids)
    return available_memory() - growth >= need


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [each.strip() for each in given.split(",") if each.strip() not in {"", "-1"}]
    if (command := shutil.which("nvidia-smi")) is None:
        return []
    found = subprocess.run([command, "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in found.stdout.splitlines())
    return [str(index) for index in range(count)]


def worker_environment(number: int, threads: int, gpus: Sequence[str]) -> Mapping[str, str]:
    """Return the environment variables of a worker: its threads, and GPUs by turns."""
    environment = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)
    )
    # A worker's crash in C code leaves a trace in the log of its trial.
    environment |= {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"}
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environment


def _resident(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / MIB
    except psutil.Error:
        return 0.0


def _first_number(path: Path) -> float | None:
    """Return the number at the start of a file of the kernel's; None for none, or ``max``."""
    try:
        return float(path.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
