"""YAML as plain values, and the line on which each was written, so that a fault can say where."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from feddag_lab.experiments.product import SettingValue

TAG = "tag:yaml.org,2002:"
SCALAR = "expected a number, text, true or false"
# Keys and indices from the root to a value.
YamlPath = Sequence[str | int]


class SuiteError(ValueError):
    """A suite, or what the command line adds to it, cannot be run; one line for each fault."""


class _Loader(yaml.SafeLoader):
    """Plain words as YAML 1.2 reads them: ``5:1``, ``no`` and ``010`` are text, ``1e-4`` is not."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
     "-+.0123456789"),
    ("null", r"^(?:null|~|)$", ["n", "~", ""]),
):  # fmt: skip
    _Loader.add_implicit_resolver(TAG + _tag, re.compile(_pattern), list(_first))


@dataclass
class Faults:
    """Collects what is wrong, each fault once, so that all of it is told at once."""

    found: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        """Note a fault."""
        line = f"{where}: {what}"
        if line not in self.found:
            self.found.append(line)

    def check(self) -> None:
        """Raise a `SuiteError` that names every fault, if there is one."""
        if self.found:
            raise SuiteError("\n".join(self.found))


class MarkedYaml:
    """The values of a YAML text, and their lines.

    Parameters
    ----------
    label : str
        What the text is called in messages.
    text : str
        YAML.
    faults : Faults
        Takes what is no plain YAML: tags, keys that are no text or come twice, merges.

    Attributes
    ----------
    values : object
        Dictionaries, lists and scalars; None where the text is empty or no YAML.
    """

    def __init__(self, label: str, text: str, faults: Faults) -> None:
        self.label = label
        self._faults = faults
        self._plain_of: dict[int, Any] = {}
        self._root = self._compose(text)
        self.values = None if self._root is None else self._plain(self._root)

    def where(self, path: YamlPath) -> str:
        """Return ``label:line`` of a key or an entry, or of the nearest above it."""
        node, line = self._root, 0
        for step in path:
            entries: list[tuple[yaml.Node, yaml.Node]] = []
            if isinstance(node, yaml.MappingNode):
                entries = [pair for pair in node.value if pair[0].value == step]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                entries = [(each, each) for each in node.value[step : step + 1]]
            if not entries:
                break
            key, node = entries[0]
            line = key.start_mark.line
        return f"{self.label}:{line + 1}"

    def _compose(self, text: str) -> yaml.Node | None:
        line, reason = 1, "the file is empty"
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
            if node is not None:
                return node
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            reason = f"no valid YAML: {error.problem}"
        except yaml.YAMLError as error:
            reason = f"no valid YAML: {error}"
        except RecursionError:
            reason = "no valid YAML: nested too deeply"
        self._faults.add(f"{self.label}:{line}", reason)
        return None

    def _plain(self, node: yaml.Node) -> Any:  # noqa: ANN401 - whatever the YAML holds
        if isinstance(node, yaml.ScalarNode):
            return plain_value(node)
        if id(node) not in self._plain_of:
            self._plain_of[id(node)] = None  # what an alias to a node above it stands for
            kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
            if node.tag != TAG + kind:
                self._refuse(node, f"the tag {node.tag!r} is not allowed")
            self._plain_of[id(node)] = (
                self._mapping(node)
                if isinstance(node, yaml.MappingNode)
                else [self._plain(each) for each in node.value]
            )
        return self._plain_of[id(node)]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, value = self._plain(key_node), self._plain(value_node)
            if not isinstance(key, str):
                self._refuse(key_node, f"the key {key!r} must be text (quote it)")
            elif key == "<<" and key_node.style is None:
                self._refuse(key_node, "'<<' merges nothing here: write the keys out")
            elif key in values:
                self._refuse(key_node, f"{key!r} was given before, at {self.label}:{lines[key]}")
            else:
                values[key] = value
                lines[key] = key_node.start_mark.line + 1
        return values

    def _refuse(self, node: yaml.Node, what: str) -> None:
        self._faults.add(f"{self.label}:{node.start_mark.line + 1}", what)


def plain_value(node: yaml.ScalarNode) -> Any:  # noqa: ANN401 - whatever YAML's tag says
    """Return what a scalar stands for; None for a tag that is not plain YAML's."""
    try:
        return _Loader("").construct_object(node)
    except (yaml.YAMLError, ValueError):
        return None


def parse_assignment(text: str) -> tuple[str, SettingValue]:
    """Read ``key=value`` as the command line gives it, the value as in YAML.

    Raises
    ------
    SuiteError
        There is no key or no value.
    """
    key, sign, value = text.partition("=")
    if not key.strip() or not sign:
        raise SuiteError(f"--set {text!r}: expected key=value")
    faults = Faults()
    found = MarkedYaml(f"--set {text!r}", value, faults).values if value.strip() else ""
    faults.check()
    if not isinstance(found, bool | int | float | str):
        raise SuiteError(f"--set {text!r}: {SCALAR}")
    return key.strip(), found
