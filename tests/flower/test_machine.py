"""Cores that a process may use, whatever the host has."""

import os

import pytest

from feddag_flwr.flower import machine
from feddag_flwr.flower.machine import usable_cores


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the kernel's files of a host of 16 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "membership")

    def file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")

    return file


def test_affinity_counts(write, monkeypatch):
    assert usable_cores() == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 16), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_container_s_limit_counts(write, limit, cores):
    write("cpu.max", limit)
    assert usable_cores() == cores


def test_a_service_s_limit_and_those_above_it_count(write):
    write("membership", "0::/system.slice/feddag.service")
    write("system.slice/feddag.service/cpu.max", "600000 100000")
    assert usable_cores() == 6
    write("system.slice/cpu.max", "400000 100000")
    assert usable_cores() == 4


def test_limits_of_the_first_version_count(write):
    write("membership", "4:memory:/m\n3:cpu,cpuacct:/job\n1:cpuset:/x")
    write("cpu/job/cpu.cfs_period_us", 100000)
    write("cpu/job/cpu.cfs_quota_us", -1)
    assert usable_cores() == 16
    write("cpu/job/cpu.cfs_quota_us", 500000)
    assert usable_cores() == 5
