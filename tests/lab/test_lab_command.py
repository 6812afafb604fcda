"""The command ``feddag-lab``: the extra it needs, and the commands that it took over."""

import subprocess
import sys

import pytest

from feddag_flwr.launcher import main as product
from feddag_lab.cli import main

pytestmark = pytest.mark.integration

# As where the extra was not installed: nothing finds these modules.
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {"pandas", "yaml"} else super().find_spec(name, path, target)

sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
from feddag_lab.cli import main
sys.exit(main(["experiment", "list"]))
"""


@pytest.mark.parametrize("old", ["experiment", "deploy-demo"])
def test_commands_that_moved_say_where_they_are(old, capsys):
    assert product([old, "run", "smoke"]) == 2
    assert capsys.readouterr().err == f"feddag-flwr: {old} is now `feddag-lab {old}`\n"


def test_all_commands_are_listed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("experiment", "deploy-demo", "docker-demo"))


def test_without_its_extra_it_says_in_one_line_what_to_install():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    needs = 'feddag-lab: needs pandas and yaml: pip install "feddag-flwr[lab]"\n'
    assert done.stderr == needs


def test_the_containers_need_a_compose_file(tmp_path, capsys):
    assert main(["docker-demo", str(tmp_path)]) == 2
    assert "compose.yaml" in capsys.readouterr().err
