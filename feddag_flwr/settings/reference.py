"""The reference of all settings: a page of Markdown, and the table for ``pyproject.toml``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import tomli_w

from feddag_flwr.settings.catalogue import CATALOGUE, SECTIONS, Setting, defaults

_HEAD = """\
# Settings

<!-- made by `python -m feddag_flwr.settings`, held by a test -->

Type a setting as `local-epochs=5`, text in double quotes:
`feddag-flwr run . --run-config 'num-clients=20 algorithm="fedavg"'`. Few settings concern most
users; each section lists them first, the advanced ones after.

The default `"preset"` means: as the setting `preset` says. What is given explicitly always counts.
"""


def markdown() -> str:
    """Write all settings as a page of Markdown, by section; basic ones before advanced ones."""
    pieces = [_HEAD]
    for title, kind in SECTIONS.items():
        pieces.append(f"## `{title}`\n\n{(kind.__doc__ or '').splitlines()[0]}\n")
        settings = [each for each in CATALOGUE.values() if each.kind is kind]
        basic = [each for each in settings if not each.facts.advanced]
        advanced = [each for each in settings if each.facts.advanced]
        if basic:
            pieces.append(_table(basic))
        if advanced:
            pieces.append(f"Advanced:\n\n{_table(advanced)}")
    return "\n".join(pieces)


def toml() -> str:
    """Write the defaults as the table ``[tool.flwr.app.config]``."""
    return tomli_w.dumps({"tool": {"flwr": {"app": {"config": defaults()}}}})


def _table(settings: Iterable[Setting]) -> str:
    """Write settings as a table: name, default, range, unit, symbol, meaning."""
    lines = ["| setting | default | allowed | paper | meaning |", "|---|---|---|---|---|"]
    for each in settings:
        unit = f" {each.facts.unit}" if each.facts.unit else ""
        lines.append(
            f"| `{each.key}` | `{json.dumps(each.default)}`{unit} | {_allowed(each)} "
            f"| {each.facts.symbol} | {_cell(' '.join(_meaning(each)))} |"
        )
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _meaning(each: Setting) -> Iterator[str]:
    """Yield what a setting means, what the presets make of it, and where it has an effect."""
    yield f"{each.field.description}."
    if each.facts.preset is not None:
        yield f"Presets: own `{each.facts.preset.own}`, paper `{each.facts.preset.paper}`."
    if each.facts.effect:
        yield f"Only where {each.condition}."
    if each.readers and each.section not in each.readers:
        yield f"Read by {', '.join(each.readers)}."


def _allowed(each: Setting) -> str:
    """Write a setting's choices or range."""
    if each.choices:
        return ", ".join(f"`{choice}`" for choice in each.choices)
    return ", ".join(f"{sign} {bound:g}" for sign, bound in each.bounds.items()) or "text"
