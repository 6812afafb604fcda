"""Parts of one's own in the working folder are found by processes that run in another one."""

import os
import subprocess
import sys

import pytest

from feddag_flwr.flower.processes import child_environment


@pytest.mark.parametrize("folder", [".", "parts", ""])
def test_a_relative_module_path_means_the_callers_folder(tmp_path, monkeypatch, folder):
    here, home = tmp_path / "here", tmp_path / "home"
    (here / "parts").mkdir(parents=True)
    home.mkdir()
    (here / folder / "mine.py").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "elsewhere"), folder]))
    code = "import mine; print(mine.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home, env=child_environment(home), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.stdout.strip(), found.returncode) == (str(here / folder / "mine.py"), 0)


def test_no_module_path_stays_none(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert "PYTHONPATH" not in child_environment(tmp_path)
