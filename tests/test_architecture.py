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

# Sections of the settings stand beside what they configure and know nothing of it.
SECTIONS = {"settings", "profile_settings"}

# Who may import whom inside the package; a room may always import itself. A seam's implementation
# that settings name (``modalities/kinds``) is a room of its own: the seam's door does not know it.
ALLOWED = {
    # -- the mathematics
    "similarity": set(),
    "privacy": {"sections", "settings"},
    "clustering": {"similarity"},
    "aggregation": set(),
    "layout": {"aggregation"},
    "profile": {"aggregation"},
    # -- names and settings
    "registry": set(),
    "registries": {"registry"},
    "algorithm_names": {"registry"},
    "class_names": set(),
    "seeds": set(),
    "sections": set(),
    "metrics": {"registries", "registry"},
    "modalities": {"registries"},
    "settings": {
        "algorithm_names", "class_names", "metrics", "registries", "registry",
        "sections",
    },
    "local_training": {"settings"},
    "run_folder": {"settings"},
    # -- data, models and training
    "state": {"aggregation", "modalities"},
    "data": {"class_names", "modalities", "seeds", "settings"},
    "models": {"aggregation", "layout", "modalities", "seeds"},
    "augmentations": set(),
    "objectives": set(),
    "optimisers": {"local_training"},
    "training": {
        "aggregation", "data", "metrics", "modalities", "models", "objectives", "privacy",
        "profile", "seeds", "settings", "similarity", "subspace_view",
    },
    "subspace_view": {"modalities", "models", "seeds", "settings"},
    "modalities/kinds": {"data", "modalities", "models", "training"},
    "trainers": {"local_training", "models", "objectives", "optimisers", "privacy", "training"},
    # -- messages and the client
    "flower": set(),
    "records": {
        "aggregation", "class_names", "flower", "local_training", "metrics", "modalities",
    },
    "traffic": {"records"},
    "postprocessors": {
        "aggregation", "records", "registries", "registry", "seeds", "settings",
    },
    "client": {
        "aggregation", "augmentations", "data", "flower", "local_training", "metrics", "modalities",
        "models", "objectives", "optimisers", "postprocessors", "privacy", "records", "registries",
        "registry", "seeds", "settings", "similarity", "trainers", "training",
    },
    "algorithms/client": {
        "aggregation", "client", "local_training", "models", "objectives", "profile", "records",
        "seeds", "similarity", "subspace_view", "trainers", "training",
    },
    # -- the server
    "checkpoints": {"aggregation", "layout", "settings", "state"},
    "aggregators": {"aggregation"},
    "federation": {
        "aggregation", "aggregators", "client", "flower", "local_training", "metrics", "models",
        "privacy", "records", "run_folder", "seeds", "settings", "state", "subspace_view",
        "traffic",
    },
    "algorithms": {
        "aggregation", "aggregators", "algorithms/client", "checkpoints", "clustering",
        "federation", "local_training", "models", "profile", "records", "run_folder",
        "sections", "seeds", "settings", "similarity", "state",
    },
    "report": {"checkpoints", "metrics", "registries", "run_folder", "settings"},
    "observers": {"checkpoints", "metrics", "report", "run_folder", "settings", "state"},
    "engine": {
        "aggregation", "aggregators", "algorithm_names", "algorithms", "checkpoints", "class_names",
        "clustering", "federation", "local_training", "metrics", "modalities",
        "models", "observers", "postprocessors", "privacy", "records", "registries", "registry",
        "run_folder", "seeds", "settings", "state", "subspace_view", "traffic",
    },
    # -- commands and tools
    "simulation": {
        "client", "engine", "flower", "records", "registries", "settings", "trainers",
    },
    "data_check": {
        "algorithms/client", "class_names", "client", "data", "metrics", "modalities",
        "modalities/kinds", "models", "privacy", "profile", "records", "registries", "registry",
        "seeds", "settings", "subspace_view", "training",
    },
    "inference": {
        "aggregation", "checkpoints", "class_names", "data", "modalities", "modalities/kinds",
        "models", "settings", "state",
    },
    "deployment": {"flower"},
    "launcher": {
        "data", "data_check", "deployment", "flower", "inference", "registries", "report",
        "settings", "simulation",
    },
}  # fmt: skip

# An algorithm's client half and what both halves speak; all other files are its server half.
CLIENT_HALF = {"client", "messages", "local_training", "mixture"}

# The product knows nothing of what is built on it.
ABOVE = {"client_app", "server_app", "feddag_lab", "tests"}

# The same for the laboratory, which may import all of `feddag_flwr` besides.
LAB_ALLOWED = {
    "attacks": {"experiments"},
    "experiments": set(),
    "process_watch": set(),
    "demonstration": set(),
    "docker_demo": set(),
    "cli": {"attacks", "demonstration", "docker_demo", "experiments"},
    "__main__": {"cli"},
}

MATHEMATICS = ("similarity", "clustering", "aggregation", "layout", "profile", "privacy")
FORBIDDEN_IN_MATHEMATICS = {"flwr", "torch", "torchvision", "ray"}


def imported(path, nodes=None):
    """Modules that a file imports: anywhere, or by some of its nodes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if nodes is None else nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = node.module in {"feddag_flwr", "feddag_lab"}  # whose names are its rooms
            yield from (f"{node.module}.{name.name}" for name in node.names if whole)
            yield node.module


def files_of(room, package=PACKAGE):
    single = package / f"{room}.py"
    return [single] if single.exists() else sorted((package / room).rglob("*.py"))


def room_of(module):
    """Return the room of a module of the package; None for the package itself."""
    parts = module.split(".")[1:]
    if not parts:
        return None
    if parts[-1] in SECTIONS:
        return "settings"
    if parts[0] == "modalities" and len(parts) > 1 and parts[1] != "base":
        return "modalities/kinds"
    if parts[0] == "algorithms" and len(parts) > 2 and parts[2] in CLIENT_HALF:
        return "algorithms/client"
    return parts[0]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_at_run_time(path):
    """Modules that a file imports, but for those that only its types need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    yield from imported(path, ast.walk(tree))


def test_every_room_is_listed():
    rooms = {room_of(module_of(path)) for path in PACKAGE.rglob("*.py")}
    assert rooms - {None} == set(ALLOWED)


def test_imports_run_one_way():
    for path in PACKAGE.rglob("*.py"):
        room = room_of(module_of(path))
        for module in imported_at_run_time(path):
            top = module.partition(".")[0]
            assert top not in ABOVE, f"{path} imports {module}"
            other = room_of(module) if top == "feddag_flwr" else None
            if room and other:
                assert other in ALLOWED[room] | {room}, f"{path} imports {module}"


def test_nothing_is_allowed_that_nobody_imports():
    found = {room: set() for room in ALLOWED}
    for path in PACKAGE.rglob("*.py"):
        if room := room_of(module_of(path)):
            found[room] |= {
                room_of(module)
                for module in imported_at_run_time(path)
                if module.startswith("feddag_flwr.")
            }
    assert {room: others - {room} for room, others in found.items()} == ALLOWED


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


def section_files():
    return [path for path in PACKAGE.rglob("*.py") if path.stem in SECTIONS]


def test_a_section_knows_names_alone_and_nothing_of_what_it_configures():
    assert len(section_files()) >= 15
    for path in section_files():
        modules = [module for module in imported(path) if module.startswith("feddag_flwr")]
        names = {
            "algorithm_names", "class_names", "metrics", "modalities", "registries", "registry",
            "sections",
        }  # fmt: skip
        assert {room_of(module) for module in modules} <= names, path


def test_what_stands_beside_a_section_is_not_imported_with_it():
    for path in section_files():
        assert not list(imported(path.parent / "__init__.py")), path


@pytest.mark.parametrize("room", MATHEMATICS)
def test_the_mathematics_knows_nothing_of_flower_and_torch(room):
    for path in files_of(room):
        tops = {module.split(".")[0] for module in imported(path)}
        assert not tops & FORBIDDEN_IN_MATHEMATICS, path


def test_checkpoints_and_models_are_used_without_flower():
    for room, forbidden in (("checkpoints", {"flwr", "torch"}), ("inference", {"flwr"})):
        for path in files_of(room):
            assert not {module.split(".")[0] for module in imported(path)} & forbidden, path


def rooms_reached_from(app):
    """Rooms that importing an app and all actions or algorithms imports, directly or by others."""
    paths = {module_of(path): path for path in PACKAGE.rglob("*.py")}
    halves = [module for module in paths if module.endswith(f".{app.removesuffix('_app')}")]
    todo = [module for path in (ROOT / app).glob("*.py") for module in imported(path)] + halves
    seen = set()
    while todo:
        module = todo.pop()
        if module in paths and module not in seen:
            seen.add(module)
            todo += [*imported_at_run_time(paths[module]), module.rpartition(".")[0]]
    # A package that imports nothing is passed through on the way to a section, say.
    bare = {module for module in seen if not list(imported(paths[module]))}
    packages = {module for module in bare if paths[module].name == "__init__.py"}
    return {room_of(module) for module in seen - packages}


def test_the_client_knows_nothing_of_the_server_and_the_other_way_round():
    client, server = rooms_reached_from("client_app"), rooms_reached_from("server_app")
    assert {"algorithms/client", "client", "training"} <= client
    assert {"algorithms", "engine", "federation"} <= server
    assert not client & {"aggregators", "checkpoints", "engine", "federation", "observers"}
    assert not server & {"data", "modalities/kinds", "objectives", "trainers", "training"}


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


def test_a_class_name_has_one_meaning():
    names = [
        node.name
        for package in (PACKAGE, LAB)
        for path in package.rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sorted(names) == sorted(set(names))
