"""The heads of many image files: which sizes there are, and what all become."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from feddag_flwr.data.images.decoding import Head, read_head
from feddag_flwr.data.images.form import ImageForm, depth_of
from feddag_flwr.data.images.progress import in_threads
from feddag_flwr.data.samples import DataError

# Height, width and number of the images of one size.
Size = tuple[int, int, int]


@dataclass(frozen=True)
class Survey:
    """What the heads of image files say.

    Attributes
    ----------
    sizes : tuple of Size
        Of upright images, the most common first, of equally common ones the smallest.
    grey, deep : int
        Files that are grey, and that have more than 8 bits a channel.
    highest : float
        Largest value of the latter.
    bad : tuple of (int, str)
        Files that cannot be read: place in the list, and why.
    """

    sizes: tuple[Size, ...]
    grey: int
    deep: int
    highest: float
    bad: tuple[tuple[int, str], ...]

    @property
    def readable(self) -> int:
        """Files that can be read."""
        return sum(count for *_, count in self.sizes)

    def form(self, side: int = 0) -> ImageForm:
        """Return the form that most have, or of height and width `side`; grey where all are."""
        height, width, _ = self.sizes[0]
        bits = depth_of(self.highest) if self.deep else 0
        channels = 1 if self.grey == self.readable else 3
        return ImageForm(channels, side or height, side or width, bits)


def survey(files: Sequence[Path], kept: Path | None = None) -> Survey:
    """Read the heads of files, or what was kept of them in the file `kept`."""
    if kept is not None and (found := _recalled(kept)) is not None:
        return found
    heads: list[Head] = []
    bad = []
    for index, head in enumerate(in_threads(read_head, files, "looking through")):
        if isinstance(head, DataError):
            bad.append((index, str(head)))
        else:
            heads.append(head)
    tally = Counter((head.height, head.width) for head in heads)
    ranked = sorted(tally, key=lambda size: (-tally[size], size[0] * size[1], size))
    made = Survey(
        tuple((*size, tally[size]) for size in ranked),
        sum(head.grey for head in heads),
        sum(head.highest > 0 for head in heads),
        max((head.highest for head in heads), default=0.0),
        tuple(bad),
    )
    if kept is not None:
        partial = kept.with_name(f".{kept.name}-{os.getpid()}")
        partial.write_text(json.dumps(asdict(made)), encoding="utf-8")
        partial.replace(kept)
    return made


def _recalled(kept: Path) -> Survey | None:
    try:
        text = json.loads(kept.read_text(encoding="utf-8"))
        sizes = tuple((int(h), int(w), int(n)) for h, w, n in text["sizes"])
        bad = tuple((int(place), str(why)) for place, why in text["bad"])
        return Survey(sizes, int(text["grey"]), int(text["deep"]), float(text["highest"]), bad)
    except (OSError, ValueError, KeyError, TypeError):
        return None
