"""The demonstration tells the truth: skips, fails and cleans up as it says, with a fake Docker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feddag_lab.docker_demo.engine import Project
from feddag_lab.docker_demo.submission import SubmitService

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]

# Writes down what it is asked for, and does what ANSWERS says of the first word that it knows.
STAND_IN = """#!{python}
import json, os, sys, time
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
for word, answer in json.loads(os.environ["ANSWERS"]).items():
    if word in words:
        print(answer.get("out", ""), flush=True)
        time.sleep(answer.get("sleep", 0))
        sys.exit(answer.get("status", 0))
"""
NO_CONTAINERS = {"ls": {}, "info": {}, "version": {}, "down": {}, "logs": {}}


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put a stand-in for docker in place of all commands; return a function of its answers."""
    commands = tmp_path / "commands"
    commands.mkdir()
    log = tmp_path / "log"
    script = commands / "docker"
    script.write_text(STAND_IN.format(python=sys.executable, log=str(log)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("FEDDAG_DOCKER_ENGINE", str(tmp_path / "nobody"))
    monkeypatch.delenv("FEDDAG_DOCKER_BORROWED", raising=False)

    def answers(**words):
        monkeypatch.setenv("ANSWERS", json.dumps(words))
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    return answers


def demonstrate(*options):
    return subprocess.run(
        [sys.executable, "-m", "feddag_lab.docker_demo", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_an_engine_it_skips_and_says_so(docker):
    docker(info={"status": 1})
    done = demonstrate()
    assert done.returncode == 77
    assert done.stdout == "SKIP: no Docker engine answers (`docker info` fails)\n"


def test_without_docker_at_all_it_skips_and_says_so(docker, monkeypatch, tmp_path):
    docker()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demonstrate().returncode == 77


def test_without_a_compose_command_it_skips_and_says_so(docker):
    docker(info={}, version={"status": 1})
    done = demonstrate()
    assert done.returncode == 77
    assert done.stdout == "SKIP: there is neither `docker compose` nor `docker-compose`\n"


def test_an_engine_is_borrowed_where_one_is_lent(docker, monkeypatch, tmp_path):
    docker(info={"status": 1})
    lender = tmp_path / "lender"
    lender.write_text('#!/bin/sh\necho "asked: $*"\nexit 77\n')
    lender.chmod(0o755)
    monkeypatch.setenv("FEDDAG_DOCKER_ENGINE", str(lender))
    done = demonstrate("--minutes", "7")
    assert done.returncode == 77
    assert f"asked: {sys.executable} -m feddag_lab.docker_demo --minutes 7\n" in done.stdout


def test_a_lender_whose_engine_does_not_answer_is_not_asked_again(docker, monkeypatch, tmp_path):
    docker(info={"status": 1})
    lender = tmp_path / "lender"
    lender.write_text('#!/bin/sh\n"$@"\n')
    lender.chmod(0o755)
    monkeypatch.setenv("FEDDAG_DOCKER_ENGINE", str(lender))
    done = demonstrate()
    assert done.returncode == 77
    assert done.stdout.count("borrowing") == 1
    assert "SKIP: no Docker engine answers" in done.stdout


def test_a_failed_build_is_a_failure_and_leaves_nothing(docker, tmp_path):
    asked = docker(build={"out": "no space left", "status": 3}, **NO_CONTAINERS)
    done = demonstrate()
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "exited with 3:\nno space left" in done.stdout
    assert "left behind: nothing" in done.stdout
    downs = [words for words in asked() if "down" in words]
    assert len(downs) == 1
    assert "--volumes" in downs[0]
    assert not list(tmp_path.glob("feddag-docker-*"))


def test_what_is_left_behind_is_a_failure(docker):
    docker(build={}, inspect={"out": "1"}, prepare={"status": 1}, **NO_CONTAINERS
           | {"ls": {"out": "abc"}})  # fmt: skip
    done = demonstrate()
    assert done.returncode == 1
    assert "left behind: container abc, volume abc, network abc" in done.stdout


def test_it_is_bounded_in_time(docker):
    docker(build={"status": 0}, **NO_CONTAINERS)
    done = demonstrate("--minutes", "0")
    assert done.returncode == 1
    assert "FAILED: the time for all of it is over" in done.stdout


def test_a_request_to_stop_is_heard_and_nothing_stays(docker, tmp_path):
    asked = docker(build={"sleep": 60}, **NO_CONTAINERS)
    command = [sys.executable, "-m", "feddag_lab.docker_demo"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        while not (tmp_path / "log").exists() or not any("build" in words for words in asked()):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        said = running.communicate(timeout=60)[0]
    assert running.returncode == 128 + signal.SIGTERM
    assert "FAILED: interrupted" in said
    assert any("down" in words for words in asked())
    assert not list(tmp_path.glob("feddag-docker-*"))


def project(minutes=1.0):
    return Project("demo", Path("compose.yaml"), {}, time.monotonic() + 60 * minutes)


def test_rounds_are_counted_and_the_exit_status_is_that_of_the_run(docker, capfd):
    docker(version={}, run={"out": "round  1/12 | 3 clusters\nround 2/12 | 3", "status": 5})
    submission = SubmitService(project())
    submission.wait_round(2, time.monotonic() + 60)
    assert submission.wait_end(time.monotonic() + 60) == 5
    assert submission.rounds == 2
    with pytest.raises(RuntimeError, match="the run ended after round 2"):
        submission.wait_round(3, time.monotonic() + 60)
    assert "round  1/12" in capfd.readouterr().out


def test_a_command_that_hangs_is_ended(docker, monkeypatch):
    docker(version={})
    sleeper = Path(os.environ["PATH"]) / "docker"
    made = project()
    sleeper.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(TimeoutError, match="`docker ps` was not over after 1 s"):
        made.docker("ps", seconds=1.0)
