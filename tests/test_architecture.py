"""The import arrows run one way, and the house has no room without a name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "feddag_flwr"

# Who may import whom inside the package; a folder may always import itself.
ALLOWED = {
    "similarity": set(),
    "clustering": {"similarity"},
    "seeds": set(),
    "algorithms": set(),
    "class_names": set(),
    "settings": {"algorithms", "class_names"},
    "aggregation": set(),
    "metrics": set(),
    "data": {"class_names", "settings", "seeds"},
    "models": {"aggregation", "seeds"},
    "training": {"aggregation", "data", "metrics", "models", "profile", "seeds", "settings"},
    "profile": {"aggregation"},
    "records": {"aggregation", "class_names", "metrics", "profile"},
    "traffic": {"records"},
    "exchange": {"records", "traffic"},
    "state": {"aggregation"},
    "checkpoints": {"aggregation", "settings", "state"},
    "run_folder": {"settings"},
    "report": {"clustering", "metrics", "state", "traffic"},
    "strategies": {
        "aggregation", "algorithms", "checkpoints", "class_names", "clustering", "exchange",
        "metrics", "models", "profile", "records", "report", "run_folder", "seeds", "settings",
        "similarity", "state", "traffic",
    },
    "data_check": {
        "class_names", "data", "metrics", "models", "profile", "records", "seeds", "settings",
        "training",
    },
    "simulation": {"records", "run_folder", "settings", "strategies"},
    "experiments": {"clustering", "data", "run_folder", "seeds", "settings", "simulation"},
    "inference": {
        "aggregation", "checkpoints", "class_names", "data", "models", "settings", "state",
    },
    "flower": set(),
    "deployment": {"checkpoints", "flower", "settings", "simulation", "state"},
    "launcher": {
        "data", "data_check", "deployment", "experiments", "flower", "inference", "settings",
        "simulation",
    },
}  # fmt: skip

MATHEMATICS = ("similarity", "clustering", "aggregation", "metrics", "profile")
FORBIDDEN_IN_MATHEMATICS = {"flwr", "torch", "torchvision", "ray"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def files_of(room):
    single = PACKAGE / f"{room}.py"
    return [single] if single.exists() else sorted((PACKAGE / room).rglob("*.py"))


def test_every_room_is_listed():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} == set(ALLOWED)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_run_one_way(room):
    for path in files_of(room):
        for module in imported(path):
            top, _, rest = module.partition(".")
            assert top not in {"client_app", "server_app", "tests"}, f"{path} imports {module}"
            if top == "feddag_flwr" and rest:
                other = rest.split(".")[0]
                assert other in ALLOWED[room] | {room}, f"{path} imports {module}"


@pytest.mark.parametrize("room", MATHEMATICS)
def test_the_mathematics_knows_nothing_of_flower_and_torch(room):
    for path in files_of(room):
        tops = {module.split(".")[0] for module in imported(path)}
        assert not tops & FORBIDDEN_IN_MATHEMATICS, path


def test_checkpoints_and_models_are_used_without_flower():
    for room, forbidden in (("checkpoints", {"flwr", "torch"}), ("inference", {"flwr"})):
        for path in files_of(room):
            assert not {module.split(".")[0] for module in imported(path)} & forbidden, path


def test_the_client_knows_nothing_of_strategies_and_the_server_nothing_of_training():
    client = {module for path in (ROOT / "client_app").glob("*.py") for module in imported(path)}
    server = {module for path in (ROOT / "server_app").glob("*.py") for module in imported(path)}
    assert not any(module.startswith("feddag_flwr.strategies") for module in client)
    assert not any(module.startswith(("feddag_flwr.training", "client_app")) for module in server)


def test_no_cycles():
    left = {room: set(others) for room, others in ALLOWED.items()}
    while left:
        free = [room for room, others in left.items() if not others]
        assert free, f"a cycle among {sorted(left)}"
        left = {room: others - set(free) for room, others in left.items() if room not in free}


def test_no_room_is_called_utils():
    names = {path.stem for folder in ("feddag_flwr", "client_app", "server_app", "benchmarks")
             for path in (ROOT / folder).rglob("*.py")}  # fmt: skip
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}
