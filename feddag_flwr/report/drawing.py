"""Figures as SVG inside the page: small, the same each time, for readers who do not tell colours.

Texts are escaped by Matplotlib; its formulas are off, since names may hold a ``$``.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, the light yellow left out: told apart by all common kinds of vision.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: Final = ("-", (0, (5, 2)), (0, (1.2, 1.2)))
GREY: Final = "#767676"
_STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "feddag-flwr",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.axisbelow": True,
    "path.simplify": True,
}
_REFERENCE = re.compile(r"(?:url\(#|href=\"#)([^)\"]+)")
_ID = re.compile(r" id=\"([^\"]+)\"")


@dataclass(frozen=True)
class Drawing:
    """A figure: its SVG, and what it shows in words."""

    title: str
    svg: str
    words: str = ""


@contextmanager
def style() -> Iterator[None]:
    """Draw in the page's style, whatever the process draws in."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of letters that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in inches, and its one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def line_style(index: int) -> dict[str, Any]:
    """Return colour and dashes of the line of a number, different ones for a score of them."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index // len(COLOURS) % len(DASHES)],
    }


def picture(figure: Figure, key: str, title: str, words: str = "") -> Drawing:
    """Write a figure as an SVG element; `key` keeps its ids apart from those of others."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].strip()
    for part in ("metadata", "style"):
        text = re.sub(rf"<{part}[ >].*?</{part}>\s*", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>\s*", "", text)
    label = f'role="img" aria-label="{escape(f"{title}. {words}")}"'
    text = _with_own_ids(text, key).replace("<svg ", f"<svg {label} ", 1)
    return Drawing(title, text, words)


def _with_own_ids(text: str, key: str) -> str:
    """Keep those ids alone that something refers to, marked by the figure's key."""
    used = set(_REFERENCE.findall(text))
    text = _ID.sub(lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", text)
    return _REFERENCE.sub(lambda m: m[0].replace(f"#{m[1]}", f"#{key}-{m[1]}"), text)
