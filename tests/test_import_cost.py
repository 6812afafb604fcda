"""In a deployment each message starts a process: what the ClientApp imports, each message pays."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parent.parent

# Needed by every action, and quickly imported; Flower and PyTorch bring the rest.
NEEDED = {
    "PIL", "annotated_types", "client_app", "feddag_flwr", "flwr", "ml_dtypes", "pydantic",
    "pydantic_core", "threadpoolctl", "typing_inspection",
}  # fmt: skip

PROGRAM = """
import json, sys
import flwr.clientapp, torch
before = set(sys.modules)
from feddag_flwr.modalities.image import Image
import client_app.app
import feddag_flwr.similarity.drift
added = set(sys.modules) - before

import numpy as np
from feddag_flwr.algorithms.feddag.local_training import PrimaryPhase, SecondaryPhase
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.local_training import PLAIN
from feddag_flwr.models.registry import build_model
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY
from feddag_flwr.optimisers.sgd import SGD
from feddag_flwr.trainers import TrainJob
from feddag_flwr.training.device import Samples

data = LabelledSamples(np.zeros((8, 1, 8, 8), np.uint8), np.arange(8) % 2)
samples = Image().to_device(torch.device("cpu"), data, ((0.0, 1.0),))
model = build_model("small", (1, 8, 8), 2, dual=True, seed=1)
for method in (PrimaryPhase(), SecondaryPhase()):
    TrainJob(
        model, samples, PLAIN, CROSS_ENTROPY, SGD, np.random.default_rng(0), method
    ).run()
print(json.dumps([sorted(before), sorted(added), sorted(set(sys.modules) - before - added)]))
"""


@pytest.fixture(scope="module")
def modules():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [set(names) for names in json.loads(done.stdout)]


def test_the_client_app_imports_no_library_but_these(modules):
    _, added, _ = modules
    libraries = {name.partition(".")[0] for name in added} - sys.stdlib_module_names
    assert {name for name in libraries if not name.startswith("_")} <= NEEDED


@pytest.mark.parametrize(
    "name", ["torchvision", "matplotlib", "sklearn", "scipy", "ray", "pandas", "safetensors"]
)
def test_heavy_libraries_are_imported_only_where_they_are_used(modules, name):
    assert not any(name in each for each in modules)


def test_what_only_some_scenarios_need_is_imported_there(modules):
    _, added, _ = modules
    assert "feddag_flwr.data.corruptions" not in added
    server = [
        name
        for name in added
        if name.startswith(("feddag_flwr.engine.", "feddag_flwr.algorithms."))
    ]
    # Sections of the settings stand there, too, and import nothing else.
    sections = {name for name in server if name.endswith(".settings")}
    assert set(server) == sections | {
        name.rpartition(".")[0] for name in sections if name.startswith("feddag_flwr.algorithms.")
    }


def test_training_does_not_load_pytorchs_compiler(modules):
    *_, trained = modules
    assert not {"torch._dynamo", "torch._inductor", "sympy"} & trained
    assert len(trained) < 40


def test_a_server_draws_its_report_s_figures_with_what_it_imports_at_the_end():
    program = (
        "import json, sys\n"
        "import server_app.app, feddag_flwr.engine.runs\n"
        "from feddag_flwr.registries import OBSERVERS\n"
        "[OBSERVERS.make(name) for name in OBSERVERS.names]\n"
        "early = {'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "import feddag_flwr.report.page\n"
        "late = {'matplotlib', 'jinja2', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "print(json.dumps([sorted(early), sorted(late)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[], ["jinja2", "matplotlib"]]
