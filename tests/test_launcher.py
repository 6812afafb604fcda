"""The launcher: its settings and status without Flower, its processes through the real one."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from feddag_flwr.flower.processes import (
    HOME_VARIABLE,
    child_environment,
    end_processes,
    find_processes,
)
from feddag_flwr.flower.run_config import (
    complete_overrides,
    count_supernodes,
    parse_overrides,
    read_defaults,
    read_run_settings,
    write_overrides,
)
from feddag_flwr.flower.run_status import parse_status
from feddag_flwr.launcher import main, run_simulation

PYPROJECT = """
[project]
name = "dummy"
version = "0.1.0"
description = "A dummy"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "dummy.server:app"
clientapp = "dummy.client:app"
[tool.flwr.app.config]
num-clients = 3
behaviour = "finish"
run-dir = "runs"
data-dir = ""
optimiser.rate = 0.1
"""
SERVER = """
import time
from logging import INFO
from pathlib import Path
from flwr.app import Context, Message, RecordDict
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
app = ServerApp()

@app.main()
def main(grid: Grid, context: Context) -> None:
    behaviour = context.run_config["behaviour"]
    while len(nodes := list(grid.get_node_ids())) < context.run_config["num-clients"]:
        time.sleep(0.1)
    queries = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in nodes]
    replies = list(grid.send_and_receive(queries, timeout=60))
    run_dir = Path(context.run_config["run-dir"])
    run_dir.mkdir(parents=True)
    (run_dir / "behaviour.txt").write_text(behaviour)
    log(INFO, "%d replies to %s", len(replies), behaviour)
    while behaviour in ("hang", "raise later") and not (run_dir / "go").exists():
        time.sleep(0.1)
    if behaviour == "raise later":
        raise RuntimeError("the ServerApp's own trouble")
"""
CLIENT = """
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
app = ClientApp()

@app.query()
def query(message: Message, context: Context) -> Message:
    return Message(message.content, reply_to=message)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    package = tmp_path / "app" / "dummy"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PYPROJECT)
    for name, text in (("__init__", ""), ("server", SERVER), ("client", CLIENT)):
        (package / f"{name}.py").write_text(text)
    return package.parent


# --- settings ---


def test_written_overrides_come_back_through_flower(tmp_path: Path) -> None:
    overrides = {
        "quotes": 'it\'s "quoted"',
        "lines": "one\ntwo = 2",
        "path": "/a b/c\\d",
        "flag": False,
        "number": 1e-5,
        "optimiser.rate": 3,
    }
    path = tmp_path / "run-config.toml"

    write_overrides(overrides, path)

    assert parse_overrides([str(path)]) == overrides


def test_folders_become_absolute(tmp_path: Path) -> None:
    defaults = {"run-dir": "", "data-dir": "", "other-dir": "x"}

    assert complete_overrides({}, defaults, tmp_path) == {"run-dir": str(tmp_path / "runs")}
    assert complete_overrides(
        {"run-dir": "../here", "data-dir": "~/data"}, defaults, tmp_path / "sub"
    ) == {"run-dir": str(tmp_path / "here"), "data-dir": str(Path.home() / "data")}
    assert complete_overrides({"run-dir": "/there"}, defaults, tmp_path)["run-dir"] == "/there"
    assert complete_overrides({}, {"run-dir": "out", "data-dir": "in"}, tmp_path) == {
        "run-dir": str(tmp_path / "out"),
        "data-dir": str(tmp_path / "in"),
    }
    assert complete_overrides({}, {"no": "folders"}, tmp_path) == {}


def test_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'num-client' .* did you mean 'num-clients'"):
        complete_overrides({"num-client": 3}, {"num-clients": 2}, tmp_path)


def test_a_run_to_resume_gives_its_settings(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"seed": 7, "run-name": "x"}')
    assert read_run_settings(tmp_path) == {"seed": 7, "run-name": "x"}
    with pytest.raises(ValueError, match="is no run folder"):
        read_run_settings(tmp_path / "nowhere")


def test_supernodes_follow_num_clients() -> None:
    assert count_supernodes({"num-clients": 5}, {"num-clients": 20}) == 5
    assert count_supernodes({}, {"num-clients": 20}) == 20
    with pytest.raises(ValueError, match="--num-supernodes"):
        count_supernodes({}, {})
    for wrong in (0, True, 2.5, "3"):
        with pytest.raises(ValueError, match="at least 1"):
            count_supernodes({"num-clients": wrong}, {})


def test_defaults_are_the_app_s(app_dir: Path, tmp_path: Path) -> None:
    defaults = read_defaults(app_dir)

    assert defaults["num-clients"] == 3
    assert defaults["optimiser.rate"] == 0.1
    with pytest.raises(ValueError, match=r"no pyproject\.toml"):
        read_defaults(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(ValueError, match=r"tool\.flwr\.app"):
        read_defaults(tmp_path)


# --- status ---


def test_status_is_read_behind_flower_s_greeting() -> None:
    run = {"status": "finished:failed", "status-details": "boom {x}"}
    greeting = "Using SuperLink: feddag\n\x1b[1m"

    failed = parse_status(greeting + json.dumps({"success": True, "runs": [run]}))

    assert failed == ("finished:failed", "boom {x}")
    run = {"status": "finished:completed", "status-details": "N/A"}
    completed = parse_status(json.dumps({"success": True, "runs": [run]}))
    assert completed == ("finished:completed", "")
    assert parse_status('{"success": true, "runs": []}') is None


@pytest.mark.parametrize("output", ["", "Traceback", '{"success": false, "error-message": "no"}'])
def test_no_answer_is_no_status(output: str) -> None:
    with pytest.raises(ConnectionError, match="flwr ls"):
        parse_status(output)


# --- processes ---


def test_children_are_cut_off_from_other_installations(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("PYTHONWARNINGS", "error")

    environment = child_environment(tmp_path)

    assert "RAY_ADDRESS" not in environment
    assert environment["FLWR_HOME"] == environment["RAY_TMPDIR"] == str(tmp_path)
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert environment["PYTHONWARNINGS"].startswith("error,")


def test_only_own_processes_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feddag_flwr.flower.processes.GRACE_SECONDS", 0.2)

    def start(home: str) -> subprocess.Popen[bytes]:
        # The child ignores SIGTERM and starts a grandchild without the variable that marks it.
        code = (
            "import signal, subprocess, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], env={})\n"
            "print(flush=True)\n"
            "time.sleep(60)\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, HOME_VARIABLE: home},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return process

    with start(str(tmp_path / "mine")) as mine, start(str(tmp_path / "other")) as other:
        try:
            assert len(find_processes(tmp_path / "mine")) == 2
            end_processes(tmp_path / "mine")
            assert find_processes(tmp_path / "mine") == set()
            assert mine.poll() is not None
            assert len(find_processes(tmp_path / "other")) == 2
        finally:
            end_processes(tmp_path / "other")
        assert other.poll() is not None


# --- command line ---


def test_wrong_command_lines_start_nothing(
    app_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert main(["run", str(app_dir), "--run-config", "behavior=1"]) == 2
    assert "did you mean 'behaviour'" in capsys.readouterr().err
    assert main(["run", str(app_dir), "--cpus", "1", "--cpus-per-client", "2"]) == 2
    assert main(["run", str(app_dir / "dummy")]) == 2
    with pytest.raises(SystemExit) as exit_info:
        main(["run", "--num-supernodes", "0"])
    assert exit_info.value.code == 2


def test_faulty_settings_of_this_app_start_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    root = Path(__file__).resolve().parent.parent

    assert main(["run", str(root), "--run-config", "seed=true num-clients=1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "feddag-flwr: setting seed = True: input should be a valid integer; allowed: a whole "
        "number, at least 0, below 2147483648",
        "setting num-clients = 1: input should be greater than or equal to 2; allowed: a whole "
        "number, at least 2, at most 100000",
    ]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--timeout", "9"], "--timeout"),
        (["--cpus-per-client", "1", "--gpus-per-client", "0"],
         "--cpus-per-client, --gpus-per-client"),
        (["--num-supernodes", "3", "--cpus", "2", "--keep-logs", "logs"],
         "--num-supernodes, --cpus, --keep-logs"),
    ],
)  # fmt: skip
def test_what_only_flower_takes_is_refused_in_process(
    given: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert main(["run", "--in-process", *given]) == 2

    assert capsys.readouterr().err == f"feddag-flwr: --in-process takes no {named}\n"


# --- through the real Flower ---


def _living(processes: set[psutil.Process]) -> list[str]:
    living = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                living.append(f"{process.pid} {process.status()} {process.cmdline()}")
        except psutil.NoSuchProcess:
            continue
    return living


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_completed_run(app_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    behaviour = 'say "it\'s fine"'

    outcome = run_simulation(
        app_dir,
        {"behaviour": behaviour, "run-dir": "out", "num-clients": 4},
        num_supernodes=4,
        cpus=2,
        timeout=170,
        stream=stream,
        keep_logs=tmp_path / "logs",
    )

    assert (outcome.succeeded, outcome.status, outcome.details) == (True, "finished:completed", "")
    assert f"4 replies to {behaviour}" in outcome.log
    assert stream.getvalue() == outcome.log
    assert (tmp_path / "out" / "behaviour.txt").read_text() == behaviour
    assert (tmp_path / "logs" / "superlink.log").stat().st_size > 0
    assert list((tmp_path / "logs" / "ray").glob("raylet*"))
    assert _living(set(psutil.Process().children(recursive=True))) == []


@contextmanager
def _launched(app_dir: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "feddag_flwr.launcher", "run", "--cpus=1", *arguments]
    process = subprocess.Popen(
        command,
        cwd=app_dir,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.e2e
@pytest.mark.timeout(240)
def test_crash_fails_and_sigterm_leaves_the_other_launcher_alone(app_dir: Path) -> None:
    """Two launchers side by side: one is stopped, the other runs on to its own crash."""
    with (
        _launched(app_dir, "--run-config", 'behaviour="hang" run-dir="a"') as hanging,
        _launched(app_dir, "--run-config", 'behaviour="raise later" run-dir="b"') as crashing,
    ):
        assert hanging.stdout is not None
        assert crashing.stdout is not None
        assert any("3 replies to hang" in line for line in hanging.stdout)
        assert any("3 replies to raise later" in line for line in crashing.stdout)
        families = [
            set(psutil.Process(process.pid).children(recursive=True))
            for process in (hanging, crashing)
        ]

        hanging.terminate()

        hanging.communicate()
        assert hanging.returncode == 128 + signal.SIGTERM
        assert len(families[0]) > 5
        assert _living(families[0]) == []
        unharmed = " ".join(_living(families[1]))
        for name in ("flower-superlink", "flower-superexec", "flwr-simulation", "raylet/raylet"):
            assert name in unharmed
        (app_dir / "b" / "go").touch()
        _, errors = crashing.communicate()
        assert crashing.returncode == 1
        assert "finished:failed" in errors
        assert "the ServerApp's own trouble" in errors
        assert _living(families[1]) == []
