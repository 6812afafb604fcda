"""Without what Windows lacks: the data owner's tools run, the others refuse in one sentence.

Libraries have branches for each system, so they are imported while all is there.
"""

import json
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings

pytestmark = pytest.mark.integration

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
# Each command line of a list, one after the other: what a start costs is paid once.
COMMANDS = (
    "import scipy, torch, torchvision\n"
    + LACKING
    + """
import contextlib, io, json
from feddag_flwr.launcher import main
done = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    done.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(done))
"""
)


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300
    )


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands find data and leave keys."""
    folder = tmp_path_factory.mktemp("windows")
    images = np.random.default_rng(1).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.savez(folder / "ward-1.npz", images=images, labels=np.arange(60) % 4)
    return folder


@pytest.fixture(scope="module")
def commands(folder):
    """What each command did, by its words."""
    lines = {
        "check-data": ["check-data", str(folder / "ward-1.npz")],
        "keys": ["keys", "--output", str(folder / "keys"), "--node", "ward-1"],
        "predict": ["predict", "--help"],
        "export": ["export", "--help"],
        "run": ["run"],
        "run --in-process": ["run", "--in-process"],
    }
    done = run(COMMANDS, json.dumps(list(lines.values())))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: Done(*each) for name, each in zip(lines, found, strict=True)}


def test_data_are_checked(commands):
    done = commands["check-data"]
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "ward-1" in done.stdout


def test_keys_are_made(commands, folder):
    assert commands["keys"].returncode == 0, commands["keys"].stderr
    assert (folder / "keys/nodes/ward-1/key").stat().st_size > 0


@pytest.mark.parametrize("command", ["predict", "export"])
def test_other_tools_start(commands, command):
    done = commands[command]
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


@pytest.mark.parametrize("command", ["run", "run --in-process"])
def test_what_needs_sessions_is_refused_in_one_sentence(commands, command):
    done = commands[command]
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
