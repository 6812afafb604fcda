"""Images out of the span of their class: the extreme rays of the pictures without negative pixels.

The first principal vectors of n images span them all if there are no more images than vectors.
Images have no negative pixels. The vectors of the span without negative pixels are a cone, and an
image is an extreme ray of it unless each of its dark pixels is dark in another image, too: then
there is nothing to be taken away from it. An extreme ray is the optimum of a linear programme, for
a direction that is drawn at random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Rows = NDArray[np.float64]

DIRECTIONS = 40
# Pixels this far below zero count as zero: vectors travel in single precision.
SLACK = 1e-6
# Rays whose cosine is above this are the same.
SAME = 0.9999


def extreme_rays(vectors: Rows, rng: np.random.Generator) -> Rows:
    """Find the extreme rays of the cone {a V >= 0}.

    Parameters
    ----------
    vectors : ndarray, shape (r, d)
        Orthonormal rows V.

    Returns
    -------
    ndarray, shape (k, d)
        Unit vectors; none where no combination is without negative pixels.
    """
    rays: list[Rows] = []
    heights = vectors.sum(axis=1)
    for direction in rng.standard_normal((DIRECTIONS, len(vectors))):
        solved = linprog(
            direction, A_ub=-vectors.T, b_ub=np.full(vectors.shape[1], SLACK),
            A_eq=heights[np.newaxis], b_eq=[1.0], bounds=(None, None),
        )  # fmt: skip
        if solved.x is None:
            continue
        ray = solved.x @ vectors
        ray = ray / np.linalg.norm(ray)
        if all(float(ray @ other) < SAME for other in rays):
            rays.append(ray)
    return np.array(rays).reshape(len(rays), vectors.shape[1])
