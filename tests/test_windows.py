"""Without what Windows lacks: the data owner's tools run, the others refuse in one sentence.

Libraries have branches for each system, so they are imported while all is there.
"""

import subprocess
import sys

import numpy as np
import pytest

from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings

LACKING = """
import os, signal, sys
import cryptography.x509, filelock, flwr.common.config, numpy, PIL.Image, psutil
for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
for name in ("SIGHUP", "SIGKILL", "SIGSTOP", "SIGCONT", "SIGQUIT", "SIGALRM"):
    delattr(signal, name)
for name in ("fchmod", "fork", "getpgid", "getsid", "getuid", "killpg", "sched_getaffinity"):
    delattr(os, name)
"""
COMMAND = LACKING + "from feddag_flwr.launcher import main\nsys.exit(main(sys.argv[1:]))\n"
TRAINING = "import scipy, torch, torchvision\n"


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def archive(tmp_path):
    random = np.random.default_rng(1)
    images = random.integers(0, 255, (60, 8, 8), dtype=np.uint8)
    path = tmp_path / "ward-1.npz"
    np.savez(path, images=images, labels=np.arange(60) % 4)
    return path


def test_data_are_checked(archive):
    done = run(TRAINING + COMMAND, "check-data", str(archive))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "ward-1" in done.stdout


def test_keys_are_made(tmp_path):
    done = run(COMMAND, "keys", "--output", str(tmp_path / "keys"), "--node", "ward-1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "keys/nodes/ward-1/key").stat().st_size > 0


@pytest.mark.parametrize("command", ["predict", "export"])
def test_other_tools_start(command):
    done = run(COMMAND, command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


@pytest.mark.parametrize("arguments", [["run"], ["run", "--in-process"]])
def test_what_needs_sessions_is_refused_in_one_sentence(arguments):
    done = run(COMMAND, *arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "on Linux and macOS only" in line
    assert "WSL 2" in line


def test_a_run_folder_is_opened_without_a_lock(tmp_path):
    code = LACKING + (
        "from feddag_flwr.run_folder import RunFolder\n"
        "from feddag_flwr.settings import Settings\n"
        "folder = RunFolder(Settings.from_run_config(\n"
        "    {'run-dir': sys.argv[1], 'run-name': 'run'}))\n"
        "folder.open()\n"
        "folder.append_line('metrics.jsonl', {'round': 0})\n"
        "folder.release()\n"
    )
    done = run(code, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/metrics.jsonl").read_text() == '{"round": 0}\n'
    settings = Settings.from_run_config({"run-dir": str(tmp_path), "resume": str(tmp_path / "run")})
    RunFolder.of_stopped_run(settings).release()
