"""What this machine offers to the processes of a run: cores and GPUs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
NUMBER = re.compile(r"-?\d+")


def usable_cores() -> int:
    """Return the cores that this process may use: by its affinity, and by its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *(int(quota) for quota in _cpu_quotas())]))


def count_gpus() -> int:
    """Return the GPUs that PyTorch finds, asked in a process of its own: it takes much memory."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(answer.stdout) if answer.returncode == 0 else 0


def _cpu_quotas() -> Iterator[float]:
    """Yield the limits, in cores, of the control groups that this process is in."""
    for group in _control_groups():
        quota, period = _numbers(group / "cpu.max", 2)  # version 2
        if period is None:  # version 1
            (quota,) = _numbers(group / "cpu.cfs_quota_us", 1)
            (period,) = _numbers(group / "cpu.cfs_period_us", 1)
        if quota is not None and period and quota > 0:  # -1: no limit
            yield quota / period


def _control_groups() -> Iterator[Path]:
    """Yield the folders of the groups that limit this process's CPU time, those above included."""
    yield CGROUP
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            root = CGROUP / "cpu" if controllers else CGROUP
            group = root / name.lstrip("/")
            yield from (path for path in (group, *group.parents) if path.is_relative_to(root))


def _numbers(path: Path, count: int) -> list[float | None]:
    """Return the numbers at the start of a file of the kernel's; None for each that is none."""
    try:
        words = path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        words = []
    words += [""] * count
    return [float(word) if NUMBER.fullmatch(word) else None for word in words[:count]]
