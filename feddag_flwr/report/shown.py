"""How figures and texts are shown."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

NONE: Final = "n/a"
# Most characters of a name, and of a sentence of somebody else's.
NAME, REMARK, SENTENCE = 60, 160, 300
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@dataclass(frozen=True)
class ShownMetric:
    """A metric's name, whether it is a share, and which of two values is the better one."""

    name: str
    percent: bool
    higher_is_better: bool

    @property
    def title(self) -> str:
        """Its name as people read it."""
        return self.name.replace("-", " ")

    def text(self, value: float | None) -> str:
        """Write a value."""
        if value is None:
            return NONE
        return f"{100 * value:.2f} %" if self.percent else f"{value:.4g}"

    def difference(self, value: float | None) -> str:
        """Write a difference of two values, with its sign."""
        if value is None:
            return NONE
        return f"{100 * value:+.2f} points" if self.percent else f"{value:+.4g}"


def plain(text: str) -> str:
    """Make characters visible that a page would hide, or that turn the order of others."""
    return "".join(_visible(each) if unicodedata.category(each) in _UNSEEN else each
                   for each in text)  # fmt: skip


def short(text: str, width: int = NAME) -> str:
    """Cut a text of somebody else's, and make all of it visible."""
    shown = plain(text[: width + 1])
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def listed(names: list[str], most: int = 5) -> str:
    """Join names as a sentence does, a few at most."""
    shown = [short(name) for name in names[:most]]
    if more := len(names) - len(shown):
        shown.append(f"{more} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def counted(count: int, noun: str) -> str:
    """Write a number and a noun: "1 round", "2 rounds"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
