"""Blocks of code in the documentation."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code and its language, empty where none is given."""

    language: str
    text: str


def blocks(page):
    return [Block(*match.groups()) for match in FENCE.finditer(page.read_text("utf-8"))]
