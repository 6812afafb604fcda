"""What ``feddag_flwr`` offers by name: all of it is there, and importing it costs nothing."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
from pages import ROOT

import feddag_flwr

PROGRAM = "import json, sys, feddag_flwr; print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize("name", feddag_flwr.__all__)
def test_a_public_name_is_what_its_module_calls_so(name):
    value = getattr(feddag_flwr, name)
    if name != "__version__":
        assert value.__name__ == name
        assert value.__module__.startswith("feddag_flwr.")


def test_every_public_name_is_documented():
    pages = (ROOT / "docs/api.md").read_text()
    documented = {path.rpartition(".")[2] for path in re.findall(r"^::: (\S+)$", pages, re.M)}
    assert documented == set(feddag_flwr.__all__) - {"__version__"}


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="'feddag_flwr' has no attribute 'FedSGD'"):
        feddag_flwr.FedSGD  # noqa: B018


def test_importing_the_package_imports_nothing_else():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert [name for name in loaded if name.startswith("feddag_flwr")] == ["feddag_flwr"]
    assert not {"flwr", "torch", "numpy", "pydantic"} & set(loaded)


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert feddag_flwr.__version__ == project["version"]
    assert f"## {feddag_flwr.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_types_are_for_others_too():
    assert (ROOT / "feddag_flwr/py.typed").exists()
