"""YAML with the line of every value, so that a fault can say where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from feddag_flwr.settings import SettingValue

TAG = "tag:yaml.org,2002:"


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
    """Collects what is wrong, so that all of it is told at once.

    Attributes
    ----------
    found : list of str
        ``where: what``, each once, in the order found.
    """

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


@dataclass(frozen=True)
class Document:
    """A YAML file under reading: knows its name, and where its faults go."""

    label: str
    faults: Faults

    def compose(self, text: str) -> yaml.Node | None:
        """Parse the file; None, and a fault, where it is no YAML or empty."""
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 1
            self.faults.add(f"{self.label}:{line}", f"no valid YAML: {error.problem}")
            return None
        except yaml.YAMLError as error:
            self.faults.add(f"{self.label}:1", f"no valid YAML: {error}")
            return None
        except RecursionError:
            self.faults.add(f"{self.label}:1", "no valid YAML: nested too deeply")
            return None
        if node is None:
            self.faults.add(f"{self.label}:1", "the file is empty")
        else:
            self._refuse_tags(node)
        return node

    def _refuse_tags(self, root: yaml.Node) -> None:
        """Refuse lists and mappings that claim to be something else; scalars see `scalar`."""
        waiting, seen = [root], set[int]()
        while waiting:
            node = waiting.pop()
            if id(node) in seen or not isinstance(node, yaml.CollectionNode):
                continue
            seen.add(id(node))  # an alias may lead back to a node above it
            kind = "map" if isinstance(node, yaml.MappingNode) else "seq"
            if node.tag != TAG + kind:
                self.faults.add(self.where(node), f"the tag {node.tag!r} is not allowed")
            if isinstance(node, yaml.MappingNode):
                waiting.extend(part for pair in node.value for part in pair)
            else:
                waiting.extend(node.value)

    def where(self, node: yaml.Node) -> str:
        """Return ``file:line`` of a node."""
        return f"{self.label}:{node.start_mark.line + 1}"

    def items(self, node: yaml.Node, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield key, key node and value node of a mapping; a key that comes twice is a fault."""
        if isinstance(node, yaml.ScalarNode) and node.tag == TAG + "null":
            return
        if not isinstance(node, yaml.MappingNode):
            self.faults.add(self.where(node), f"{what}: expected keys with values")
            return
        seen: dict[str, str] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != TAG + "str":
                self.faults.add(self.where(key_node), f"{what}: a key must be text (quote it)")
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                self.faults.add(
                    self.where(key_node), f"{what}: '<<' merges nothing here: write the keys out"
                )
                continue
            if key in seen:
                self.faults.add(
                    self.where(key_node), f"{what}: {key!r} was given before, at {seen[key]}"
                )
                continue
            seen[key] = self.where(key_node)
            yield key, key_node, value_node

    def scalar(self, node: yaml.Node, what: str) -> SettingValue | None:
        """Return a plain value; None, and a fault, for anything else."""
        if isinstance(node, yaml.ScalarNode):
            value = plain_value(node)
            if isinstance(value, bool | int | float | str):
                return value
        self.faults.add(self.where(node), f"{what}: expected a number, text, true or false")
        return None


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
    faults = Faults()
    document = Document(f"--set {text!r}", faults)
    if not key.strip() or not sign:
        faults.add(f"--set {text!r}", "expected key=value")
        faults.check()
    node = yaml.ScalarNode(f"{TAG}str", "", start_mark=yaml.Mark("", 0, 0, 0, "", 0))
    if value.strip():
        composed = document.compose(value)
        faults.check()
        assert composed is not None
        node = composed  # type: ignore[assignment]
    if not isinstance(node, yaml.ScalarNode) or (found := plain_value(node)) is None:
        raise SuiteError(f"--set {text!r}: expected a number, text, true or false")
    result: SettingValue = found
    return key.strip(), result


def read_document(path: Path) -> str:
    """Read a file of text.

    Raises
    ------
    SuiteError
        It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: cannot be read: {error}") from None
