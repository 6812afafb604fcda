"""In a deployment each message starts a process: what the ClientApp imports, each message pays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Needed by every action, and quickly imported; Flower and PyTorch bring the rest.
NEEDED = {
    "PIL", "annotated_types", "client_app", "feddag_flwr", "ml_dtypes", "pydantic",
    "pydantic_core", "threadpoolctl", "typing_inspection",
}  # fmt: skip

PROGRAM = """
import json, sys
import flwr.clientapp, torch
before = set(sys.modules)
import client_app.app
import feddag_flwr.similarity.drift
print(json.dumps([sorted(before), sorted(set(sys.modules) - before)]))
"""


@pytest.fixture(scope="module")
def modules():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, added = json.loads(done.stdout)
    return set(before), set(added)


def test_the_client_app_imports_no_library_but_these(modules):
    _, added = modules
    libraries = {name.partition(".")[0] for name in added} - sys.stdlib_module_names
    assert {name for name in libraries if not name.startswith("_")} <= NEEDED


@pytest.mark.parametrize(
    "name", ["torchvision", "matplotlib", "sklearn", "scipy", "ray", "pandas", "safetensors"]
)
def test_heavy_libraries_are_imported_only_where_they_are_used(modules, name):
    before, added = modules
    assert name not in before | added


def test_what_only_some_scenarios_need_is_imported_there(modules):
    _, added = modules
    assert "feddag_flwr.data.corruptions" not in added
    assert not [name for name in added if name.startswith("feddag_flwr.strategies")]
