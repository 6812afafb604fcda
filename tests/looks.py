"""Made-up clients whose classes look as those of their group do, but for the noise of sampling."""

import numpy as np


def bases_of(groups, counts, rng, *, unlike=0.5, features=12):
    """Bases (N, C, 1, d) of one unit vector a class: group means `unlike` apart, noise 1/sqrt(n).

    Vectors of a class that a client does not hold are zero.
    """
    groups, counts = np.asarray(groups), np.asarray(counts)
    classes = counts.shape[1]
    common = rng.standard_normal((1, classes, features))
    common /= np.linalg.norm(common, axis=2, keepdims=True)
    own = rng.standard_normal((int(groups.max()) + 1, classes, features)) / np.sqrt(features)
    noise = rng.standard_normal((*counts.shape, features)) / np.sqrt(features)
    vectors = common + unlike * own[groups] + noise / np.sqrt(np.maximum(counts, 1))[..., None]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(counts[..., None] > 0, vectors, 0.0)[:, :, None].astype(np.float32)


def same_groups(found, expected):
    """Whether two labellings part the same clients from each other."""
    found, expected = np.asarray(found), np.asarray(expected)
    return np.array_equal(found[:, None] == found, expected[:, None] == expected)
