"""Suites: which algorithms run on which scenarios with which seeds, read from YAML files.

========================  ==========================================================================
``description``           one line
``settings``              for every trial
``algorithms``            display name to settings; ``algorithm`` in them picks the strategy
``scenarios``             display name to ``settings`` and, optionally, ``published``, where the
                          published figures are, for instance ``table_10/label_skew_30/fmnist``,
                          and ``without``, a list of the algorithms that do not run there
``seeds``                 a list; each seed is a repetition
========================  ==========================================================================

A scenario's settings win over the suite's, an algorithm's over both, the command line's over all.
``suite.json`` of an experiment holds the same, beside the suite's name and the command line's
settings.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic_core import ErrorDetails

from feddag_lab.experiments.product import SettingValue, keys
from feddag_lab.experiments.published import published_figures
from feddag_lab.experiments.yaml_marks import SCALAR, Faults, MarkedYaml, SuiteError, YamlPath

# What the runner decides for each trial.
TAKEN = ("seed", *keys(lambda facts: facts.place == "run"))
# Two slugs, a seed and an ending make a file name, for which most systems allow 255 characters.
MOST_SLUG_CHARACTERS = 100


def _scalar(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(SCALAR)
    return value


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


Setting = Annotated[Any, BeforeValidator(_scalar)]
# Settings by hyphenated name; a key without a value, ``settings:``, is none.
Layer = Annotated[dict[str, Setting], BeforeValidator(_nothing_is_empty)]


class Scenario(BaseModel):
    """One column of a table: how data is split over clients.

    Attributes
    ----------
    settings : dict
        What the scenario sets.
    published : str or None
        Where the paper has figures for it.
    without : list of str
        Algorithms that do not run there.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    settings: Layer = {}
    published: str | None = None
    without: list[str] = []


class Suite(BaseModel):
    """Every algorithm on every scenario with every seed, in this order.

    Attributes
    ----------
    name, description : str
    settings : dict
        For every trial.
    algorithms, scenarios : dict
        By display name.
    seeds : list of int
    command_line : dict
        Settings that were given when the suite was run; they win over all others.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    description: str = ""
    settings: Layer = {}
    algorithms: dict[str, Layer] = Field(min_length=1)
    scenarios: dict[str, Scenario] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    command_line: Layer = Field(default={}, alias="command-line")
    _marks: MarkedYaml | None = PrivateAttr(default=None)

    def where(self, path: YamlPath) -> str:
        """Return ``file:line`` of a part of the suite."""
        return self._marks.where(path) if self._marks is not None else "suite.json"

    def algorithms_in(self, scenario: str) -> list[str]:
        """Return the algorithms that run on a scenario, in the order of the file."""
        without = self.scenarios[scenario].without
        return [name for name in self.algorithms if name not in without]

    def layers(self, scenario: str, algorithm: str) -> dict[tuple[str, ...], dict[str, Any]]:
        """Return the settings of a trial by where they stand; a later layer wins."""
        return {
            ("settings",): self.settings,
            ("scenarios", scenario, "settings"): self.scenarios[scenario].settings,
            ("algorithms", algorithm): self.algorithms[algorithm],
        }

    def settings_of(self, scenario: str, algorithm: str) -> dict[str, Any]:
        """Return what the suite sets for a trial, the command line's settings on top."""
        merged: dict[str, Any] = {}
        for layer in (*self.layers(scenario, algorithm).values(), self.command_line):
            merged |= layer
        return merged

    @property
    def num_trials(self) -> int:
        """Number of runs."""
        return sum(len(self.algorithms_in(name)) for name in self.scenarios) * len(self.seeds)

    def to_json(self, overrides: Mapping[str, SettingValue]) -> dict[str, Any]:
        """Return what ``suite.json`` holds."""
        return {**self.model_dump(by_alias=True), "command-line": dict(overrides)}


class _WrittenScenario(Scenario):
    model_config = ConfigDict(extra="forbid")


class _WrittenSuite(Suite):
    """A suite as a person writes it: a key that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid")

    scenarios: dict[str, Annotated[_WrittenScenario, BeforeValidator(_nothing_is_empty)]] = Field(  # type: ignore[assignment]
        min_length=1
    )


def shipped_suites() -> dict[str, Path]:
    """Return the suites that come with the package, by name."""
    folder = Path(str(resources.files("feddag_lab.experiments"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(name: str) -> Path:
    """Return the file of a shipped suite, or the path itself where it is one.

    Raises
    ------
    SuiteError
        There is neither; names the suites that there are.
    """
    shipped = shipped_suites()
    if name in shipped:
        return shipped[name]
    if Path(name).is_file():
        return Path(name)
    near = difflib.get_close_matches(name, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SuiteError(f"no suite {name!r}: neither a file nor one of {', '.join(shipped)}{hint}")


def load_suite(path: Path) -> Suite:
    """Read and check a suite; its settings are checked when trials are planned.

    Raises
    ------
    SuiteError
        One line for each fault: ``file:line: what``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: cannot be read: {error}") from None
    faults = Faults()
    marks = MarkedYaml(str(path), text, faults)
    faults.check()
    values = marks.values
    if isinstance(values, dict):
        for key in sorted({"name", "command-line"} & set(values)):
            faults.add(marks.where([key]), f"suite: unknown key {key!r}")
        values = {**values, "name": path.stem}
    try:
        suite = _WrittenSuite.model_validate(values)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            place = each["loc"][:-1] if each["type"] == "missing" else each["loc"]
            faults.add(marks.where(place), _message(each))
    else:
        suite._marks = marks
        for where, what in _mistakes(suite):
            faults.add(marks.where(where), what)
    faults.check()
    return suite


def slug(name: str) -> str:
    """Turn a display name into a part of a file name.

    >>> slug("FedDAG*-Data"), slug("I 30 %, alpha' 0.25")
    ('feddag-star-data', 'i-30-alpha-0.25')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.findall(r"\d+\.\d+|[a-z0-9]+", plain.replace("*", " star ").lower())
    return "-".join(words)


def _subject(path: YamlPath) -> str:
    """Name a part of a suite: ``scenario 'I 20 %': without``."""
    words = [str(step) for step in path if isinstance(step, str) and step != "settings"]
    if len(path) > 1 and path[0] in ("algorithms", "scenarios"):
        words[:2] = [f"{str(path[0])[:-1]} {path[1]!r}"]
    elif path and path[0] == "settings":
        words.insert(0, "settings")
    return ": ".join(words) or "suite"


def _message(error: ErrorDetails) -> str:
    """Say in this project's words what pydantic found."""
    path = [step for step in error["loc"] if isinstance(step, str | int)]
    subject, kind = _subject(path), error["type"]
    if kind in ("missing", "extra_forbidden"):
        whole, key = _subject(path[:-1]), str(path[-1])
        if kind == "missing":
            return f"{whole}: {key!r} is missing"
        known = [name for name in (_WrittenScenario if len(path) > 1 else Suite).model_fields
                 if name not in ("name", "command_line")]  # fmt: skip
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        return f"{whole}: unknown key {key!r}; {hint}"
    texts = {
        "dict_type": "expected keys with values",
        "model_type": "expected keys with values",
        "list_type": "expected a list, such as [1, 2, 3]",
        "too_short": "none is given" if isinstance(error["input"], dict) else "the list is empty",
        "int_type": f"{error['input']!r} is no integer",
        "value_error": str(error.get("ctx", {}).get("error")),
    }
    return f"{subject}: {texts.get(kind, error['msg'])}"


def _mistakes(suite: Suite) -> Iterator[tuple[YamlPath, str]]:
    """Yield what is wrong with a suite whose structure is right: where, and what."""
    for group in ("algorithms", "scenarios"):
        yield from _bad_names(group, getattr(suite, group))
    layers: dict[tuple[str, ...], dict[str, Any]] = {}
    for scenario in suite.scenarios:
        for algorithm in suite.algorithms:
            layers |= suite.layers(scenario, algorithm)
    for path, layer in layers.items():
        for key in layer:
            if key in TAKEN:
                what = f"{_subject(path)}: {key!r} is decided by the runner for each trial"
                yield (*path, key), what
    for index, seed in enumerate(suite.seeds):
        if seed in suite.seeds[:index]:
            yield ("seeds", index), f"seeds: {seed} was given before"
    for name, each in suite.scenarios.items():
        yield from _bad_scenario(name, each, suite)


def _bad_names(group: str, names: Mapping[str, object]) -> Iterator[tuple[YamlPath, str]]:
    """Find names that cannot become file names and table headings."""
    slugs: dict[str, str] = {}
    for name in names:
        short = slug(name)
        if "/" in name or not short:
            yield (group, name), f"{group}: {name!r} must hold letters or digits, and no '/'"
        elif len(short) > MOST_SLUG_CHARACTERS:
            most = f"over {MOST_SLUG_CHARACTERS} letters and digits"
            yield (group, name), f"{group}: {name!r} has {most}"
        elif short in slugs:
            yield (group, name), f"{group}: {name!r} is too like {slugs[short]!r}"
        slugs.setdefault(short, name)


def _bad_scenario(name: str, scenario: Scenario, suite: Suite) -> Iterator[tuple[YamlPath, str]]:
    path, subject = ("scenarios", name), f"scenario {name!r}"
    for index, each in enumerate(scenario.without):
        if each not in suite.algorithms:
            what = f"{subject}: without {each!r}: no algorithm of the suite"
            yield (*path, "without", index), what
    if not suite.algorithms_in(name):
        yield (*path, "without"), f"{subject}: no algorithm is left"
    try:
        if scenario.published is not None:
            published_figures(scenario.published)
    except KeyError as error:
        yield (*path, "published"), f"{subject}: {error.args[0]}"
