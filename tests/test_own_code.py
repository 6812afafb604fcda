"""Own code: found in the working folder, refused in a sentence before any process starts."""

import json
import os
import sys
from pathlib import Path

import pytest
from memory_grid import QUICK

from feddag_flwr.launcher import cli, main
from feddag_flwr.launcher.own_code import KEYS, find_own_code, own_parts
from feddag_flwr.settings import Settings

MODEL = """
from torch import nn

def build(shape):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
    encoder.feature_size = 8
    return encoder
"""
APP = str(Path(__file__).resolve().parents[1])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder that Python does not search; what is found in it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "before")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("mine_"):
            del sys.modules[name]


@pytest.fixture
def started(monkeypatch):
    """What is asked of Flower, in whose place nothing starts."""
    asked = []

    def simulate(app_dir, overrides, **options):
        asked.append(os.environ["PYTHONPATH"])
        raise RuntimeError("Flower would start now")

    monkeypatch.setattr(cli, "run_simulation", simulate)
    return asked


def config(**changes):
    settings = {**QUICK, "algorithm": "fedavg", "num-rounds": 1, **changes}
    return " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())


def test_a_module_of_the_working_folder_is_found_here_and_by_what_is_started(folder, started):
    (folder / "mine_a.py").write_text(MODEL)
    assert main(["run", APP, "--run-config", config(model="mine_a:build")]) == 1
    (path,) = started
    assert path.split(os.pathsep) == ["before", str(folder)]
    assert sys.path[-1] == str(folder)


def test_a_folder_that_would_hide_python_s_own_modules_is_not_searched(folder, started, capsys):
    (folder / "mine_l.py").write_text(MODEL)
    (folder / "json.py").write_text("")
    assert main(["run", APP, "--run-config", config(model="mine_l:build")]) == 2
    assert f"{folder / 'json.py'} would take the place of Python's own" in capsys.readouterr().err
    assert started == []


def test_a_run_in_this_process_trains_it(folder):
    (folder / "mine_b.py").write_text(MODEL)
    given = config(model="mine_b:build", **{"run-dir": str(folder / "runs")})
    assert main(["run", APP, "--in-process", "--run-config", given]) == 0
    assert len(list((folder / "runs").iterdir())) == 1


def test_nothing_is_searched_that_is_not_needed(folder, started):
    assert main(["run", APP, "--run-config", config(model="small")]) == 1
    assert started == ["before"]
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("text", "setting", "message"),
    [
        (None, {"model": "mine_c:build"}, "there is no module 'mine_c', neither installed, nor in"),
        ("def build(", {"model": "mine_d:build"}, "setting model = 'mine_d:build': SyntaxError"),
        ("", {"model": "mine_e:build"}, "has no attribute 'build'"),
        ("import nowhere", {"metrics": "mine_f:M"}, "No module named 'nowhere'"),
        ("class M: ...", {"metrics": "mine_g:M"}, "setting metrics = 'mine_g:M': "),
        ("class W: ...", {"observers": "mine_h:W, progress"}, "setting observers = 'mine_h:W': "),
        ("class A: ...", {"algorithm": "mine_i:A"}, "setting algorithm = 'mine_i:A': "),
        ("load = 3", {"dataset": "mine_j:load", "scenario": "own"}, "mine_j:load"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_starts(
    folder, started, capsys, text, setting, message
):
    name = next(iter(setting.values())).partition(":")[0]
    if text is not None:
        (folder / f"{name}.py").write_text(text)
    assert main(["run", APP, "--run-config", config(**setting)]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert started == []


def test_a_module_that_is_nowhere_is_told_with_the_folders_searched(tmp_path):
    with pytest.raises(ValueError, match=f"nor in {tmp_path} or {tmp_path / 'app'}$"):
        find_own_code([("model", "mine_k:Net")], [tmp_path, tmp_path / "app"])


def test_all_settings_that_take_own_parts_are_looked_at():
    named = {"model": "a:B", "metrics": "c:D, accuracy, e.f:G", "optimiser": "h:i"}
    named |= {"device": "cuda:0", "schedule": "2:1"}
    found = list(own_parts(Settings.from_run_config(named)))
    assert sorted(found) == [
        ("metrics", "c:D"), ("metrics", "e.f:G"), ("model", "a:B"), ("optimiser", "h:i")
    ]  # fmt: skip
    assert Settings().to_run_config().keys() >= KEYS
