"""Suites: which algorithms run on which scenarios with which seeds, read from YAML files.

========================  ==========================================================================
``description``           one line
``settings``              for every cell
``algorithms``            display name to settings; ``algorithm`` in them picks the strategy
``scenarios``             display name to ``settings`` and, optionally, ``published``, where the
                          published figures are, for instance ``table_10/label_skew_30/fmnist``,
                          and ``without``, a list of the algorithms that do not run there
``seeds``                 a list; each seed is a repetition
========================  ==========================================================================

A scenario's settings win over the suite's, an algorithm's over both, the command line's over all.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from feddag_flwr.settings import SettingValue
from feddag_lab.experiments.published import published_figures
from feddag_lab.experiments.yaml_nodes import Document, Faults, SuiteError, read_document

KEYS = ("description", "settings", "algorithms", "scenarios", "seeds")
SCENARIO_KEYS = ("settings", "published", "without")
# What the runner decides for each cell.
TAKEN = ("seed", "run-dir", "run-name")
# Two slugs, a seed and an ending make a file name, for which most systems allow 255 characters.
MOST_SLUG_CHARACTERS = 100


@dataclass(frozen=True)
class Layer:
    """Settings, and where each was written.

    Attributes
    ----------
    values : dict
        By hyphenated name.
    places : dict of str to str
        ``file:line`` of each value.
    """

    values: dict[str, SettingValue] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """One column of a table.

    Attributes
    ----------
    layer : Layer
        Its settings.
    where : str
        ``file:line`` of its name.
    published : str or None
        Where the paper has figures for it.
    without : tuple of str
        Algorithms that do not run there.
    """

    layer: Layer
    where: str
    published: str | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """A checked suite; algorithms and scenarios by display name, in the order of the file.

    ``seeds`` maps each seed to the ``file:line`` where it was written.
    """

    name: str
    description: str
    settings: Layer
    algorithms: dict[str, Layer]
    scenarios: dict[str, Scenario]
    seeds: dict[int, str]

    def algorithms_in(self, scenario: str) -> dict[str, Layer]:
        """Return the algorithms that run on a scenario, in the order of the file."""
        without = self.scenarios[scenario].without
        return {name: layer for name, layer in self.algorithms.items() if name not in without}

    @property
    def num_cells(self) -> int:
        """Number of runs."""
        return sum(len(self.algorithms_in(name)) for name in self.scenarios) * len(self.seeds)

    def to_json(self, overrides: Mapping[str, SettingValue]) -> dict[str, Any]:
        """Return what ``suite.json`` holds."""
        return {
            "name": self.name,
            "description": self.description,
            "settings": self.settings.values,
            "algorithms": {name: layer.values for name, layer in self.algorithms.items()},
            "scenarios": {
                name: {
                    "settings": each.layer.values,
                    "published": each.published,
                    "without": list(each.without),
                }
                for name, each in self.scenarios.items()
            },
            "seeds": list(self.seeds),
            "command-line": dict(overrides),
        }


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
    """Read and check a suite's structure; its settings are checked when cells are planned.

    Raises
    ------
    SuiteError
        One line for each fault: ``file:line: what``.
    """
    faults = Faults()
    reader = _Reader(Document(str(path), faults))
    suite = reader.read(path.stem, read_document(path))
    faults.check()
    assert suite is not None
    return suite


def slug(name: str) -> str:
    """Turn a display name into a part of a file name.

    >>> slug("FedDAG*-Data"), slug("I 30 %, alpha' 0.25")
    ('feddag-star-data', 'i-30-alpha-0.25')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.findall(r"\d+\.\d+|[a-z0-9]+", plain.replace("*", " star ").lower())
    return "-".join(words)


class _Reader:
    """Turns the nodes of one file into a suite; faults are collected, not raised."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults = document.faults

    def read(self, name: str, text: str) -> Suite | None:
        root = self.document.compose(text)
        if root is None:
            return None
        parts: dict[str, yaml.Node] = {}
        for key, key_node, value in self.document.items(root, "suite"):
            if key in KEYS:
                parts[key] = value
            else:
                self._unknown(key, key_node, KEYS, "suite")
        for key in ("algorithms", "scenarios", "seeds"):
            if key not in parts:
                self.faults.add(self.document.where(root), f"suite: {key!r} is missing")
        if {"algorithms", "scenarios", "seeds"} - set(parts):
            return None
        description = parts.get("description")
        algorithms = self._algorithms(parts["algorithms"])
        return Suite(
            name=name,
            description="" if description is None else self._text(description, "description"),
            settings=self._layer(parts.get("settings"), "settings"),
            algorithms=algorithms,
            scenarios=self._scenarios(parts["scenarios"], algorithms),
            seeds=self._seeds(parts["seeds"]),
        )

    def _algorithms(self, node: yaml.Node) -> dict[str, Layer]:
        return {
            name: self._layer(value, f"algorithm {name!r}")
            for name, _, value in self._named(node, "algorithms")
        }

    def _scenarios(self, node: yaml.Node, algorithms: Mapping[str, Layer]) -> dict[str, Scenario]:
        found = {}
        for name, where, value in self._named(node, "scenarios"):
            what = f"scenario {name!r}"
            layer, published = Layer(), None
            without: tuple[str, ...] = ()
            for key, key_node, part in self.document.items(value, what):
                if key == "settings":
                    layer = self._layer(part, what)
                elif key == "published":
                    published = self._published(part, what)
                elif key == "without":
                    without = self._without(part, what, algorithms)
                else:
                    self._unknown(key, key_node, SCENARIO_KEYS, what)
            found[name] = Scenario(layer, where, published, without)
        return found

    def _without(
        self, node: yaml.Node, what: str, algorithms: Mapping[str, Layer]
    ) -> tuple[str, ...]:
        names = []
        for each in self._list(node, f"{what}: without", "[Oracle]"):
            name = self._text(each, f"{what}: without")
            if name not in algorithms:
                self.faults.add(
                    self.document.where(each),
                    f"{what}: without {name!r}: no algorithm of the suite",
                )
            names.append(name)
        if algorithms and not set(algorithms) - set(names):
            self.faults.add(self.document.where(node), f"{what}: no algorithm is left")
        return tuple(names)

    def _named(self, node: yaml.Node, what: str) -> list[tuple[str, str, yaml.Node]]:
        """Return the entries of a mapping whose keys become file names and table headings."""
        entries, slugs = [], dict[str, str]()
        for name, key_node, value in self.document.items(node, what):
            where, short = self.document.where(key_node), slug(name)
            if "/" in name or not short:
                self.faults.add(where, f"{what}: {name!r} must hold letters or digits, and no '/'")
            elif len(short) > MOST_SLUG_CHARACTERS:
                self.faults.add(
                    where, f"{what}: {name!r} has over {MOST_SLUG_CHARACTERS} letters and digits"
                )
            elif short in slugs:
                self.faults.add(where, f"{what}: {name!r} is too like {slugs[short]!r}")
            else:
                slugs[short] = name
                entries.append((name, where, value))
        if not entries and not self.faults.found:
            self.faults.add(self.document.where(node), f"{what}: none is given")
        return entries

    def _layer(self, node: yaml.Node | None, what: str) -> Layer:
        if node is None:
            return Layer()
        layer = Layer()
        for key, key_node, value_node in self.document.items(node, what):
            where = self.document.where(key_node)
            if key in TAKEN:
                self.faults.add(where, f"{what}: {key!r} is decided by the runner for each cell")
                continue
            value = self.document.scalar(value_node, f"{what}: {key}")
            if value is not None:
                layer.values[key] = value
                layer.places[key] = where
        return layer

    def _published(self, node: yaml.Node, what: str) -> str | None:
        path = self._text(node, f"{what}: published")
        try:
            published_figures(path)
        except KeyError as error:
            self.faults.add(self.document.where(node), f"{what}: {error.args[0]}")
            return None
        return path

    def _seeds(self, node: yaml.Node) -> dict[int, str]:
        seeds: dict[int, str] = {}
        for each in self._list(node, "seeds", "[1, 2, 3]"):
            value = self.document.scalar(each, "seeds")
            if isinstance(value, bool) or not isinstance(value, int):
                self.faults.add(self.document.where(each), f"seeds: {value!r} is no integer")
            elif value in seeds:
                self.faults.add(self.document.where(each), f"seeds: {value} was given before")
            else:
                seeds[value] = self.document.where(each)
        return seeds

    def _list(self, node: yaml.Node, what: str, example: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self.faults.add(
                self.document.where(node), f"{what}: expected a list, such as {example}"
            )
            return []
        if not node.value:
            self.faults.add(self.document.where(node), f"{what}: the list is empty")
        return list(node.value)

    def _text(self, node: yaml.Node, what: str) -> str:
        value = self.document.scalar(node, what)
        return "" if value is None else str(value)

    def _unknown(self, key: str, node: yaml.Node, known: tuple[str, ...], what: str) -> None:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
        self.faults.add(self.document.where(node), f"{what}: unknown key {key!r}{hint}")
