"""What goes to every node with a run: the app's own packages, whatever else is in the checkout."""

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("client_app", "feddag_flwr", "server_app")
MADE_BY_FLOWER = {".info/CONTENT", "pyproject.toml"}


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the bundle is made from."""
    folder = tmp_path / "feddag-flwr"
    folder.mkdir()
    for name in (".gitignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name)
    return folder


def bundled(folder):
    return set(zipfile.ZipFile(io.BytesIO(build_fab_from_disk(folder))).namelist())


def test_all_modules_of_the_packages_travel(checkout):
    modules = {
        path.relative_to(checkout).as_posix() for name in PACKAGES
        for path in (checkout / name).rglob("*.py")
    }  # fmt: skip
    assert len(modules) > 100
    assert bundled(checkout) == modules | MADE_BY_FLOWER


def test_own_code_in_the_client_app_s_folder_travels(checkout):
    (checkout / "client_app/mine.py").write_text("def build(shape): ...")
    assert "client_app/mine.py" in bundled(checkout)


def test_what_else_lies_in_the_checkout_neither_travels_nor_breaks(checkout):
    before = bundled(checkout)
    deep = checkout / ".venv311/lib/python3.11/site-packages/a/b/c/d/e/f/g"
    deep.mkdir(parents=True)
    (deep / "module.py").write_text("")
    for name in ("wards/1.json", "docs/notes.md", "tests/site.yaml"):
        (checkout / name).parent.mkdir()
        (checkout / name).write_text("[]")
    (checkout / "patients.json").write_text("[]")
    (checkout / "script.py").write_text("")
    assert bundled(checkout) == before


def test_git_ignores_nothing_of_the_project():
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tracked.stdout == ""
