"""Files for four wards to try a federation with: real handwritten digits, two hidden groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

# Each group of wards holds classes that the other one lacks.
GROUPS = {("ward-1", "ward-2"): range(5), ("ward-3", "ward-4"): range(5, 10)}
SAMPLES = 160
GREY_LEVELS = 16


def write_parts(folder: Path) -> dict[str, Path]:
    """Write an .npz archive for each ward, with class names of its own classes alone.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    dict[str, Path]
        The archive of each ward, in the order of names.
    """
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / GREY_LEVELS)).astype(np.uint8)
    paths = {}
    for wards, classes in GROUPS.items():
        (rows,) = np.nonzero(np.isin(digits.target, list(classes)))
        for place, ward in enumerate(wards):
            own = rows[place :: len(wards)][:SAMPLES]
            paths[ward] = folder / f"{ward}.npz"
            np.savez(
                paths[ward],
                images=pixels[own],
                labels=digits.target[own] - classes.start,
                class_names=np.array([str(label) for label in classes]),
            )
    return paths
