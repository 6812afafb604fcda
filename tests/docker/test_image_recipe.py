"""The image: unprivileged, dependencies before code, and what a CPU never loads taken out."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from remove_unloaded_cuda import removable

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"
INSTRUCTIONS = [
    line.strip()
    for line in re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text("utf-8")).splitlines()
    if line.strip() and not line.startswith("#")
]


def place(start):
    """Return where the only instruction with this beginning is."""
    (found,) = (n for n, line in enumerate(INSTRUCTIONS) if line.startswith(start))
    return found


def test_the_requirements_are_those_of_the_project():
    script = [sys.executable, str(DOCKER / "requirements.py"), str(ROOT / "pyproject.toml")]
    listed = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert listed == [*project["build-system"]["requires"], *project["project"]["dependencies"]]


def test_dependencies_are_a_layer_before_the_code_and_know_nothing_of_it():
    last_stage = max(n for n, line in enumerate(INSTRUCTIONS) if line.startswith("FROM "))
    install = place("RUN python -m venv")
    before = [line for line in INSTRUCTIONS[last_stage:install] if line.startswith("COPY")]
    assert before == [
        "COPY --from=requirements /requirements.txt /opt/feddag/",
        "COPY docker/remove_unloaded_cuda.py /opt/feddag/",
    ]
    assert install < place("COPY feddag_flwr")


def test_the_image_needs_no_buildkit_and_ends_without_privileges():
    text = (DOCKER / "Dockerfile").read_text("utf-8")
    assert "# syntax" not in text
    assert "--mount" not in text
    assert {line for line in INSTRUCTIONS if line.startswith("FROM")} == {
        "FROM ${BASE} AS requirements",
        "FROM ${BASE}",
    }
    assert INSTRUCTIONS[0] == "ARG BASE=python:3.11-slim"  # before the first FROM: for both stages
    assert INSTRUCTIONS[-1] == "USER feddag"
    assert "ARG DEVICE=gpu" in INSTRUCTIONS


def test_what_is_copied_is_there_and_not_ignored():
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    copies = [line.split()[1:-1] for line in INSTRUCTIONS if re.match("COPY (?!--from)", line)]
    sources = {source for copy in copies for source in copy}
    assert {source.split("/")[0] for source in sources} == allowed
    for source in sources:
        assert (ROOT / source).exists(), source


@pytest.fixture
def packages(tmp_path):
    """A folder like NVIDIA's: a used library behind a link, an unused one, a licence, Python."""
    library = tmp_path / "nvidia" / "cu" / "lib"
    library.mkdir(parents=True)
    for name in ("libused.so.1", "libunused.so.1", "License.txt", "__init__.py", "COPYING.LICENSE"):
        (library / name).write_text(name)
    (library / "libused.so").symlink_to("libused.so.1")
    (library / "libunused.so").symlink_to("libunused.so.1")
    (library.parent / "header.h").write_text("h")
    return tmp_path / "nvidia"


def test_what_no_cpu_loads_is_found(packages):
    library = packages / "cu" / "lib"
    found = removable(packages, {(library / "libused.so.1").resolve()})
    assert found == [
        packages / "cu" / "header.h",
        library / "libunused.so",
        library / "libunused.so.1",
    ]


def test_without_cuda_there_is_nothing_to_remove(tmp_path):
    assert removable(tmp_path / "nvidia", set()) == []
