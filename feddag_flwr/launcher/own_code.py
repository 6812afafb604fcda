"""Own code that settings name: found in the working folder, and tried before any process starts."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from feddag_flwr.registries import (
    AGGREGATORS,
    AUGMENTATIONS,
    METRICS,
    MODALITIES,
    OBJECTIVES,
    OBSERVERS,
    OPTIMISERS,
    POSTPROCESSORS,
    TRAINERS,
)
from feddag_flwr.settings import Settings

_REGISTRIES = (
    AGGREGATORS, AUGMENTATIONS, METRICS, MODALITIES, OBJECTIVES, OBSERVERS, OPTIMISERS,
    POSTPROCESSORS, TRAINERS,
)  # fmt: skip
# Settings that take ``package.module:Name``.
KEYS = {"algorithm", "dataset", "model", *(registry.setting for registry in _REGISTRIES)}
SEARCHED = "PYTHONPATH"
STANDARD = sys.stdlib_module_names


def own_parts(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each part of the user's own that settings name: the key, and ``package.module:Name``.

    >>> list(own_parts(Settings.from_run_config({"model": "mine:Net"})))
    [('model', 'mine:Net')]
    """
    for key, value in settings.to_run_config().items():
        if key in KEYS:
            names = (name.strip() for name in str(value).split(","))
            yield from ((key, name) for name in names if name.count(":") == 1)


def find_own_code(parts: Iterable[tuple[str, str]], folders: Iterable[Path]) -> None:
    """Let modules that lie in folders be imported, here and by processes that start.

    A folder is searched only if a module is found nowhere else.

    Raises
    ------
    ValueError
        A module is nowhere, or the folder has a file that would take the place of one of Python's
        own modules.
    """
    searched = [folder.resolve() for folder in folders]
    for key, name in parts:
        top = name.partition(":")[0].partition(".")[0]
        if not top.isidentifier() or top in sys.modules or find_spec(top) is not None:
            continue
        holding = (f for f in searched if (f / f"{top}.py").is_file() or (f / top).is_dir())
        folder = next(holding, None)
        if folder is None:
            raise ValueError(
                f"setting {key} = {name!r}: there is no module {top!r}, neither installed, nor in "
                f"{SEARCHED}, nor in {' or '.join(map(str, dict.fromkeys(searched)))}"
            )
        _search(folder)


def _search(folder: Path) -> None:
    """Append a folder to where this process, and those that it starts, look for modules."""
    taken = sorted(file.name for file in folder.glob("*.py") if file.stem in STANDARD)
    if taken:  # PYTHONPATH is searched before Python's own folders
        raise ValueError(
            f"{folder / taken[0]} would take the place of Python's own module; rename it, or move "
            "your own code to another folder"
        )
    sys.path.append(str(folder))
    given = os.environ.get(SEARCHED)
    os.environ[SEARCHED] = os.pathsep.join(filter(None, [given, str(folder)]))
    importlib.invalidate_caches()
