"""Print what the project needs, one requirement a line, from its pyproject.toml.

The image installs this list before it copies the code: as long as the list stays the same, so does
the layer of several GB, even when other parts of pyproject.toml change.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str) -> list[str]:
    """Return what a project needs, to build it and to run it.

    Parameters
    ----------
    pyproject : str
        The content of a ``pyproject.toml``.

    Returns
    -------
    list[str]
        Requirements as pip takes them, those of the build first.

    Raises
    ------
    KeyError
        If there is no ``[build-system]`` or ``[project]``.
    """
    tables = tomllib.loads(pyproject)
    return [*tables["build-system"]["requires"], *tables["project"]["dependencies"]]


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]).read_text(encoding="utf-8"))))
