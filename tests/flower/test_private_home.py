"""Nothing stays of a private folder and its processes, however the caller ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feddag_flwr.flower.private_home import clear_stale, private_home
from feddag_flwr.flower.processes import end_processes, find_processes

pytestmark = pytest.mark.integration

# A caller with a process that outlives it, in a session of its own as those of Flower are.
CALLER = """
import os, subprocess, sys, time
from feddag_flwr.flower.private_home import private_home
with private_home() as home:
    subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(300)"],
        env={**os.environ, "FLWR_HOME": str(home)}, start_new_session=True,
    )
    print(home, flush=True)
    time.sleep(300)
"""


@pytest.fixture
def caller():
    """A caller in a process group of its own, and its private folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    home = Path(process.stdout.readline().strip())
    yield process, home
    process.kill()
    process.communicate()
    end_processes(home)


def gone(home, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not home.exists() and not find_processes(home):
            return True
        time.sleep(0.1)
    return False


def watchers(home):
    """The processes whose last word is the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        if words[-1] == os.fsencode(home):
            found.append(int(path.parent.name))
    return found


def test_it_is_short_enough_for_ray(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/" + "long/" * 30)
    with private_home() as home:
        socket = home / "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
        assert home.is_dir()
        assert len(str(socket)) < 107
        assert len(watchers(home)) == 1
    assert not home.exists()
    assert watchers(home) == []


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_killed_caller_leaves_nothing(caller, whole_group):
    process, home = caller
    assert len(find_processes(home)) == 1
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    assert gone(home)


def test_what_is_left_of_a_caller_and_its_watcher_goes_at_the_next_start(caller):
    process, home = caller
    (watcher,) = watchers(home)
    os.kill(watcher, signal.SIGKILL)
    process.kill()
    process.wait()
    assert not gone(home, seconds=1.0)
    with private_home() as other:
        assert gone(home)
        assert other.is_dir()


def test_folders_in_use_and_those_of_others_stay(caller, tmp_path):
    _, home = caller
    foreign = tmp_path / "feddag-parts"
    foreign.mkdir()
    clear_stale(tmp_path)
    clear_stale(home.parent)
    assert foreign.is_dir()
    assert home.is_dir()
    assert len(find_processes(home)) == 1
