"""The import arrows run one way, and the house has no room without a name."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "feddag_flwr"
LAB = ROOT / "feddag_lab"

# Who may import whom inside the package; a folder may always import itself.
ALLOWED = {
    "similarity": set(),
    "clustering": {"similarity"},
    "seeds": set(),
    "algorithm_names": set(),
    "registry": set(),
    "registries": {"registry"},
    "settings": {"algorithm_names", "registries", "registry"},
    "local_training": {"settings"},
    "objectives": set(),
    "optimisers": {"local_training"},
    "aggregation": set(),
    "layout": {"aggregation"},
    "metrics": set(),
    "data": {"class_names", "settings", "seeds"},
    "models": {"aggregation", "seeds"},
    "training": {
        "aggregation", "data", "metrics", "models", "objectives", "profile", "seeds", "settings",
    },
    "trainers": {"local_training", "models", "objectives", "optimisers", "training"},
    "profile": {"aggregation"},
    "records": {"aggregation", "local_training", "metrics", "profile"},
    "client": {
        "aggregation", "data", "local_training", "metrics", "models", "objectives", "optimisers",
        "records", "registries", "registry", "seeds", "settings", "similarity", "trainers",
        "training",
    },
    "algorithms": {
        "aggregation", "client", "data", "local_training", "models", "objectives", "profile",
        "records", "seeds", "trainers", "training",
    },
    "traffic": {"records"},
    "exchange": {"client", "records", "traffic"},
    "models": {"aggregation", "layout", "seeds"},
    "training": {"aggregation", "data", "metrics", "models", "profile", "seeds", "settings"},
    "profile": {"aggregation"},
    "records": {"aggregation", "flower", "metrics", "profile"},
    "traffic": {"records"},
    "exchange": {"flower", "records", "traffic"},
    "state": {"aggregation"},
    "checkpoints": {"aggregation", "layout", "settings", "state"},
    "run_folder": {"settings"},
    "report": {"clustering", "metrics", "state", "traffic"},
    "strategies": {
        "aggregation", "algorithm_names", "algorithms", "checkpoints", "clustering", "exchange",
        "metrics", "models", "profile", "records", "registry", "report", "run_folder", "seeds",
        "settings", "similarity", "state", "traffic",
        "aggregation", "algorithms", "checkpoints", "clustering", "exchange", "layout", "metrics",
        "models", "profile", "records", "report", "run_folder", "seeds", "settings", "similarity",
        "state", "traffic",
    },
    "data_check": {
        "algorithms", "data", "metrics", "models", "profile", "records", "seeds", "settings",
        "training",
    },
    "simulation": {
        "client", "records", "registries", "run_folder", "settings", "strategies", "trainers",
    },
    "simulation": {"flower", "records", "run_folder", "settings", "strategies"},
    "experiments": {"clustering", "data", "run_folder", "seeds", "settings", "simulation"},
    "inference": {
        "aggregation", "checkpoints", "class_names", "data", "models", "settings", "state",
    },
    "flower": set(),
    "deployment": {"checkpoints", "flower", "layout", "settings", "simulation", "state"},
    "launcher": {
        "data", "data_check", "deployment", "flower", "inference", "settings", "simulation",
    },
}  # fmt: skip

# The product knows nothing of what is built on it.
ABOVE = {"client_app", "server_app", "feddag_lab", "tests"}

# The same for the laboratory, which may import all of `feddag_flwr` besides.
LAB_ALLOWED = {
    "experiments": set(),
    "process_watch": set(),
    "demonstration": set(),
    "docker_demo": set(),
    "cli": {"demonstration", "docker_demo", "experiments"},
    "__main__": {"cli"},
}

# The product knows nothing of what is built on it.
ABOVE = {"client_app", "server_app", "feddag_lab", "tests"}

# The same for the laboratory, which may import all of `feddag_flwr` besides.
LAB_ALLOWED = {
    "experiments": set(),
    "process_watch": set(),
    "demonstration": set(),
    "docker_demo": set(),
    "cli": {"demonstration", "docker_demo", "experiments"},
    "__main__": {"cli"},
}

MATHEMATICS = ("similarity", "clustering", "aggregation", "metrics", "profile")
FORBIDDEN_IN_MATHEMATICS = {"flwr", "torch", "torchvision", "ray"}


def imported(path, nodes=None):
    """Modules that a file imports: anywhere, or by some of its nodes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def files_of(room, package=PACKAGE):
    single = package / f"{room}.py"
    return [single] if single.exists() else sorted((package / room).rglob("*.py"))


def test_every_room_is_listed():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} == set(ALLOWED)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_run_one_way(room):
    for path in files_of(room):
        for module in imported(path):
            top, _, rest = module.partition(".")
            assert top not in ABOVE, f"{path} imports {module}"
            if top == "feddag_flwr" and rest:
                other = rest.split(".")[0]
                assert other in ALLOWED[room] | {room}, f"{path} imports {module}"


def test_every_room_of_the_laboratory_is_listed():
    rooms = {path.stem for path in LAB.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} == set(LAB_ALLOWED)


@pytest.mark.parametrize("room", sorted(LAB_ALLOWED))
def test_the_laboratory_is_built_on_the_product_and_its_rooms_on_few_others(room):
    for path in files_of(room, LAB):
        for module in imported(path):
            top, _, rest = module.partition(".")
            assert top not in ABOVE - {"feddag_lab"}, f"{path} imports {module}"
            if top == "feddag_lab":
                assert rest.split(".")[0] in LAB_ALLOWED[room] | {room}, f"{path} imports {module}"


def test_the_demonstration_in_containers_needs_python_alone():
    for path in files_of("docker_demo", LAB):
        tops = {module.split(".")[0] for module in imported(path)}
        assert tops <= sys.stdlib_module_names | {"feddag_lab"}, path


@pytest.mark.parametrize("app", ["client_app", "server_app"])
def test_the_apps_know_nothing_of_the_laboratory(app):
    modules = {module for path in (ROOT / app).rglob("*.py") for module in imported(path)}
    assert "feddag_lab" not in {module.split(".")[0] for module in modules}


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
    halves = [ROOT / "client_app", PACKAGE / "client", PACKAGE / "algorithms"]
    client = {module for half in halves for path in half.rglob("*.py") for module in imported(path)}
    server = {module for path in (ROOT / "server_app").glob("*.py") for module in imported(path)}
    assert not any(module.startswith("feddag_flwr.strategies") for module in client)
    assert not any(module.startswith(("feddag_flwr.training", "client_app")) for module in server)


PUBLIC_FLOWER = {"flwr.app", "flwr.serverapp", "flwr.serverapp.strategy", "flwr.clientapp"}
TRANSPORT = {"google", "grpc", "httpx"}


def test_one_module_alone_imports_what_is_private_to_flower():
    private = {
        str(path.relative_to(ROOT)): module
        for path in product_files()
        for module in imported(path)
        if (module.split(".")[0] == "flwr" and module not in PUBLIC_FLOWER)
        or module.split(".")[0] in TRANSPORT
    }
    assert set(private) == {"feddag_flwr/flower/private.py"}


def test_all_that_is_imported_is_a_declared_dependency():
    """By the distribution that brings the module; what an extra brings is imported in functions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {canonical(each) for each in project["dependencies"]}
    extra = {canonical(each) for many in project["optional-dependencies"].values() for each in many}
    distributions = packages_distributions()
    for path in product_files():
        at_top = set(imported(path, ast.parse(path.read_text(encoding="utf-8")).body))
        for module in imported(path):
            top = module.split(".")[0]
            if top in sys.stdlib_module_names | {"feddag_flwr", "client_app", "server_app"}:
                continue
            allowed = declared if module in at_top else declared | extra
            named = BRINGS.get(module) or distributions.get(top, [top])
            assert {canonical(each) for each in named} & allowed, f"{path} imports {module}"


# Of packages that several distributions share.
BRINGS = {"google.protobuf.message": ["protobuf"]}


def product_files():
    rooms = (PACKAGE, ROOT / "client_app", ROOT / "server_app")
    return [path for room in rooms for path in room.rglob("*.py")]


def canonical(requirement):
    """The name of a distribution, without extras and versions."""
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_no_cycles():
    left = {room: set(others) for room, others in ALLOWED.items()}
    while left:
        free = [room for room, others in left.items() if not others]
        assert free, f"a cycle among {sorted(left)}"
        left = {room: others - set(free) for room, others in left.items() if room not in free}


def test_no_room_is_called_utils():
    folders = ("feddag_flwr", "feddag_lab", "client_app", "server_app", "benchmarks")
    names = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}
