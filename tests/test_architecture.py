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

# Who may import whom inside the package, nearest to the ground first: a room imports rooms above it
# alone. A folder may always import itself; what only type checkers import does not count.
ALLOWED = {
    "aggregation": set(),
    "flower": set(),
    "objectives": set(),
    "registry": set(),
    "seeds": set(),
    "similarity": set(),
    "aggregators": {"aggregation", "registry"},
    "algorithm_names": {"registry"},
    "clustering": {"similarity"},
    "layout": {"aggregation"},
    "metrics": {"registry"},
    "modalities": {"registry"},
    "profile": {"aggregation"},
    "registries": {"registry"},
    "models": {"aggregation", "layout", "modalities", "seeds"},
    "settings": {"algorithm_names", "metrics", "modalities", "registries", "registry"},
    "state": {"aggregation", "modalities"},
    "checkpoints": {"aggregation", "layout", "settings", "state"},
    "data": {"modalities", "seeds", "settings"},
    "local_training": {"settings"},
    "run_folder": {"settings"},
    "inference": {
        "aggregation", "checkpoints", "data", "modalities", "models", "settings", "state",
    },
    "observers": {"checkpoints", "metrics", "registry", "run_folder", "settings", "state"},
    "optimisers": {"local_training"},
    "records": {"aggregation", "flower", "local_training", "metrics", "modalities"},
    "training": {
        "aggregation", "data", "metrics", "modalities", "models", "objectives", "profile", "seeds",
        "settings",
    },
    "modalities.image": {"data", "modalities", "models", "training"},
    "traffic": {"records"},
    "trainers": {"local_training", "models", "objectives", "optimisers", "training"},
    "client": {
        "aggregation", "data", "local_training", "metrics", "modalities", "models", "objectives",
        "optimisers", "records", "registries", "registry", "seeds", "settings", "similarity",
        "trainers", "training",
    },
    "federation": {
        "aggregation", "aggregators", "client", "flower", "metrics", "models", "records",
        "run_folder", "seeds", "settings", "state", "traffic",
    },
    "algorithms": {
        "aggregation", "aggregators", "checkpoints", "client", "clustering", "federation",
        "local_training", "modalities", "models", "objectives", "profile", "records", "run_folder",
        "seeds", "settings", "similarity", "state", "trainers", "training",
    },
    "data_check": {
        "algorithms", "data", "metrics", "models", "profile", "records", "seeds", "settings",
        "training",
    },
    "engine": {
        "aggregators", "algorithm_names", "algorithms", "checkpoints", "clustering", "federation",
        "metrics", "modalities", "models", "observers", "records", "run_folder", "seeds",
        "settings", "state", "traffic",
    },
    "simulation": {
        "client", "engine", "flower", "records", "registries", "settings", "trainers",
    },
    "deployment": {"checkpoints", "flower", "layout", "settings", "simulation", "state"},
    "experiments": {"clustering", "data", "run_folder", "seeds", "settings", "simulation"},
    "launcher": {
        "data", "data_check", "deployment", "experiments", "flower", "inference", "settings",
        "simulation",
    },
}  # fmt: skip

# What registries name and nobody imports by itself: rooms of their own, above what names them.
NAMED = ("modalities.image",)

MATHEMATICS = ("similarity", "clustering", "aggregation", "layout", "profile")
FORBIDDEN_IN_MATHEMATICS = {"flwr", "torch", "torchvision", "ray"}


def imported(path, nodes=None):
    """Modules that a file imports when it runs: anywhere, or by some of its nodes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in run_of(tree) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "feddag_flwr":
                yield from (f"feddag_flwr.{alias.name}" for alias in node.names)
            else:
                yield node.module


def run_of(node):
    """A node and all below it, but for what only type checkers see."""
    yield node
    checked = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    for child in node.orelse if checked else ast.iter_child_nodes(node):
        yield from run_of(child)


def room_of(module):
    """The room that a module of the package belongs to."""
    inside = module.removeprefix("feddag_flwr.")
    return inside if inside in NAMED else inside.split(".")[0]


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def files_of(room):
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE or path.stem != "__init__"
        if room_of(module_of(path)) == room
    ]


def test_every_room_is_listed():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert (rooms - {"__init__", "__pycache__"}) | set(NAMED) == set(ALLOWED)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_what_is_listed_and_all_of_it(room):
    found = set()
    for path in files_of(room):
        for module in imported(path):
            top = module.split(".")[0]
            assert top not in {"client_app", "server_app", "tests"}, f"{path} imports {module}"
            if module.startswith("feddag_flwr."):
                found.add(room_of(module))
                assert room_of(module) in ALLOWED[room] | {room}, f"{path} imports {module}"
    assert found - {room} == ALLOWED[room]


def test_imports_run_one_way():
    below = set()
    for room, others in ALLOWED.items():
        assert others <= below, f"{room} imports what is above it"
        below.add(room)


@pytest.mark.parametrize("room", MATHEMATICS)
def test_the_mathematics_knows_nothing_of_flower_and_torch(room):
    for path in files_of(room):
        tops = {module.split(".")[0] for module in imported(path)}
        assert not tops & FORBIDDEN_IN_MATHEMATICS, path


def test_checkpoints_and_models_are_used_without_flower():
    for room, forbidden in (("checkpoints", {"flwr", "torch"}), ("inference", {"flwr"})):
        for path in files_of(room):
            assert not {module.split(".")[0] for module in imported(path)} & forbidden, path


def reached_from(*starts):
    """All modules of the package that importing these files imports, directly or by others."""
    paths = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    seen, todo = set(), [module for path in starts for module in (module_of(path), *imported(path))]
    while todo:
        module = todo.pop()
        if module in paths and module not in seen:
            seen.add(module)
            todo += [*imported(paths[module]), module.rpartition(".")[0]]
    return seen


SERVER_ROOMS = {"aggregators", "checkpoints", "engine", "federation", "observers", "run_folder"}
CLIENT_ROOMS = {"data", "objectives", "optimisers", "trainers", "training"}


def test_a_client_half_reaches_nothing_of_the_servers():
    halves = [*(ROOT / "client_app").glob("*.py"), *(PACKAGE / "client").glob("*.py")]
    halves += (PACKAGE / "algorithms").glob("*/client.py")
    reached = reached_from(*halves)
    assert "feddag_flwr.training.local" in reached
    assert not {room_of(module) for module in reached} & SERVER_ROOMS
    assert not {each for each in reached if each.endswith((".server", ".algorithm"))}


def test_a_server_half_reaches_no_training_and_no_data():
    halves = [*(ROOT / "server_app").glob("*.py"), *(PACKAGE / "engine").glob("*.py")]
    halves += (PACKAGE / "algorithms").glob("*/server.py")
    reached = reached_from(*halves)
    assert "feddag_flwr.federation.exchange" in reached
    assert not {room_of(module) for module in reached} & CLIENT_ROOMS
    assert "feddag_flwr.client.actions" not in reached


def test_algorithms_do_not_know_each_other_but_for_their_servers():
    """One may be a variant of another's server; messages and client halves are its own."""
    for path in (PACKAGE / "algorithms").glob("*/*.py"):
        for module in imported(path):
            if module.startswith("feddag_flwr.algorithms."):
                own = module.split(".")[2] in {path.parent.name, "algorithm"}
                assert own or module.endswith(".server"), f"{path} imports {module}"


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


def test_no_room_is_called_utils():
    names = {path.stem for folder in ("feddag_flwr", "client_app", "server_app", "benchmarks")
             for path in (ROOT / folder).rglob("*.py")}  # fmt: skip
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}
