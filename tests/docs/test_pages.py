"""Python in the documentation runs; commands, settings, targets and links in it exist."""

import json
import re
import shlex

import pytest
from memory_grid import QUICK
from pages import PAGES, ROOT, blocks

from feddag_flwr.flower.run_config import parse_overrides
from feddag_flwr.launcher import cli
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process
from feddag_lab import cli as lab_cli

# What is typed between quotes after these is a run config; an ellipsis stands for more of it.
CONFIG = re.compile(r"(?:--run-config |RUN_CONFIG=)'([^']*)'")
EXTENDING = ROOT / "docs/extending.md"  # has a test of its own
RUNNABLE = [
    page
    for page in PAGES
    if page != EXTENDING and any(block.language == "python" for block in blocks(page))
]
SPANS = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
PAIRS = re.compile(r"(?:[a-z][a-z0-9-]*=(?:\"[^\"]*\"|[\w.+-]+) ?)+")
# Pages whose inline settings are meant to be typed together, as they stand.
SETTINGS_PAGES = [ROOT / "docs" / name for name in ("variants.md", "scenarios.md")]


def named(page):
    return page.relative_to(ROOT).as_posix()


def configs(page):
    return [text.replace(" ...", "") for text in CONFIG.findall(page.read_text("utf-8"))
            if text.strip(". ")]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory where a run of the digits has been."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    run_in_process(Settings.from_run_config({**QUICK, "run-name": "example"}))
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE, ids=named)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, place):
    names = {}
    for number, block in enumerate(block for block in blocks(page) if block.language == "python"):
        exec(compile(block.text, f"{named(page)}, Python block {number}", "exec"), names)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/own-data.md"], ids=named)
def test_own_data_trains_as_the_page_says(page, place):
    code = next(b.text for b in blocks(page) if b.language == "python" and "np.savez" in b.text)
    exec(code, {})
    (config,) = [text for text in configs(page) if "data-dir" in text]
    quick = {**QUICK, "client-groups": 1, "learning-rate": 0.05, "batch-size": 16, "num-rounds": 5}
    folder = run_in_process(Settings.from_run_config({**quick, **parse_overrides([config])}))
    overall = json.loads((folder / "summary.json").read_text())["overall"]
    assert overall["clients"] == 3
    assert overall["accuracy"] > 0.9  # chance: 0.5


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs/own-model.md"], ids=named)
def test_an_own_model_trains_as_the_page_says(page, place):
    code = next(b.text for b in blocks(page) if b.language == "python" and "feature_size" in b.text)
    (config,) = [text for text in configs(page) if "model=" in text]
    name = f"mymodel_{page.stem.lower().replace('-', '_')}"
    (place / f"{name}.py").write_text(code, "utf-8")
    own = parse_overrides([config.replace("mymodel", name)])
    folder = run_in_process(Settings.from_run_config({**QUICK, **own}))
    layout = json.loads(next(folder.glob("checkpoints/*2/state.json")).read_text())["layout"]
    assert layout["primary"][0]["shape"] == [32, 64]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_settings_that_a_page_types_are_settings(page, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for block in blocks(page):
        if found := re.match(r"# (\w+)\.py\n", block.text):  # a file that settings name
            (tmp_path / f"{found[1]}.py").write_text(block.text, "utf-8")
    for text in configs(page):
        Settings.from_run_config(parse_overrides([text]))


@pytest.mark.parametrize("page", SETTINGS_PAGES, ids=named)
def test_settings_in_tables_are_settings(page):
    found = [text for text in SPANS.findall(page.read_text("utf-8")) if PAIRS.fullmatch(text)]
    assert len(found) >= 8
    for text in found:
        assert parse_overrides([text]).keys() <= Settings().to_run_config().keys(), text


def commands(page):
    """The words of each command of this project in a page's shell blocks."""
    for block in blocks(page):
        if block.language in ("", "sh", "bash", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True) if balanced(line) else []
                for place, word in enumerate(words):
                    if word.rpartition("/")[2] in ("feddag-flwr", "feddag-lab", "make"):
                        yield word.rpartition("/")[2], words[place + 1 :]
                        break


def balanced(line):
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_targets_of_a_page_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {
        "feddag-flwr": subcommands(cli._parser()),
        "feddag-lab": subcommands(lab_cli._parser()),
    }
    for program, words in commands(page):
        if words:
            assert words[0] in (targets if program == "make" else known[program]), words


def subcommands(parser):
    return {name for action in parser._actions for name in getattr(action, "choices", None) or ()}


def test_commands_are_found_at_all():
    assert sum(1 for page in PAGES for _ in commands(page)) > 25


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text("utf-8"))):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": ([\w-]+\.md)$", text, re.MULTILINE))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text("utf-8")
    folders = "feddag_flwr|feddag_lab|client_app|server_app|tests|benchmarks|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    assert not re.findall(
        r"(?<![\w-])[A-Z]+_(?:SIZE|FIGURES|TIME)S?(?![\w-])", text
    )  # to be filled in
