"""Phase 1 on a client: k-sparse update, class-wise subspaces and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.pixels import AT_ONCE
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import Rows, SampleSpec, load_modality
from feddag_flwr.profile import (
    DIRECTIONS,
    LeadingDirections,
    Profile,
    sparse_size,
    subspace_size,
)
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.looks import Looks, features_of
from feddag_flwr.subspace_view import SampleVectors, SubspaceView, make_view, view_name

# Singular values below this share of the largest are noise of the Gram matrix, not directions.
RANK_TOLERANCE = 1e-6


def sparse_coordinates(count: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """Draw the coordinates that every client sends, ascending: a `fraction` of `count`, 1 at least.

    One set for all clients, by the server's seed, so that inner products compare like with like.
    """
    kept = sparse_size(count, fraction)
    return np.sort(generator(seed, "sparse-coordinates").choice(count, size=kept, replace=False))


def leading_vectors(samples: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Leading left singular vectors of the matrix whose columns are the samples (Sec. 3.2).

    Computed from the smaller of the two Gram matrices, since only a few vectors are wanted.

    Parameters
    ----------
    samples : ndarray, shape (n, d)
        One sample a row, not centred.
    size : int
        Vectors wanted; fewer come back when the samples span less.

    Returns
    -------
    ndarray, shape (r, d), r <= min(size, n, d)
        Orthonormal rows, by falling singular value; the entry of largest magnitude is positive.
    """
    matrix = samples.astype(np.float64, copy=False)
    n, d = matrix.shape
    wide = n < d
    left = _leading(matrix @ matrix.T if wide else matrix.T @ matrix, size)
    if not left.size:  # all samples are zero
        return np.zeros((0, d))
    if wide:
        # The first columns of Q span what the first columns of X^T V span, and are orthonormal.
        left, _ = np.linalg.qr(matrix.T @ left)
    return _oriented(left)


def leading_vectors_of_all(
    samples: NDArray[Any], view: SubspaceView, scale: Rows, size: int
) -> NDArray[np.float64]:
    """Return the `leading_vectors` of any number of samples, seen by a view.

    Where the vectors would take more than half a GB, their Gram matrix is added up in chunks.
    """
    count, features = len(samples), view.features
    if count < features or count * features <= AT_ONCE:
        return leading_vectors(view.matrix(samples, scale), size)
    gram = np.zeros((features, features))
    for chunk in chunks_of(count, max(1, AT_ONCE // features)):
        rows = view.matrix(samples[chunk], scale)
        gram += rows.T @ rows
    left = _leading(gram, size)
    return _oriented(left) if left.size else np.zeros((0, features))


def _leading(gram: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the leading eigenvectors of a Gram matrix as columns, none for a matrix of zeros."""
    import scipy.linalg  # no message but the profile needs it, see tests/test_import_cost.py

    order = len(gram)
    lowest = max(0, order - size)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(lowest, order - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    leading: NDArray[np.float64] = vectors[:, values > max(values[0], 0.0) * RANK_TOLERANCE**2]
    return leading


def _oriented(left: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return columns as rows whose entry of largest magnitude is positive."""
    peaks = left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])]
    oriented: NDArray[np.float64] = (left * np.sign(peaks)).T
    return oriented


def class_subspaces(
    data: LabelledSamples,
    settings: Settings,
    rng: np.random.Generator,
    scale: Rows = (),
    spec: SampleSpec | None = None,
    seen: SampleVectors | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Take the truncated SVD of each class present (phase 1, step 3), by the settings for it.

    `rng` draws the samples that enter it where a class has more than ``max-class-samples``
    (A.6.2); `scale` is the federation's, for modalities whose matrix depends on it; `spec` that of
    the samples, where they do not tell it themselves. `seen` has their vectors, where others want
    them too. Returns vectors, shape (rows, d), float32, and the class of each.
    """
    seen = seen or sample_vectors(data.samples, settings, scale, spec)
    rows: list[NDArray[np.float32]] = []
    classes: list[int] = []
    for label in np.unique(data.labels):
        members = np.flatnonzero(data.labels == label)
        if len(members) < settings.profile.min_subspace_samples:
            continue
        size = subspace_size(settings.profile.subspace_size, len(members))
        if len(members) > settings.profile.max_class_samples:
            members = np.sort(
                rng.choice(members, settings.profile.max_class_samples, replace=False)
            )
        vectors_of_class = leading_vectors(seen.of(members), size).astype(np.float32)
        rows.append(vectors_of_class)
        classes += [int(label)] * len(vectors_of_class)
    vectors = np.concatenate(rows) if rows else np.zeros((0, seen.view.features), dtype=np.float32)
    return vectors, np.array(classes, dtype=np.int64)


def leading_directions(
    samples: NDArray[Any],
    settings: Settings,
    client: str,
    scale: Rows = (),
    spec: SampleSpec | None = None,
    seen: SampleVectors | None = None,
) -> LeadingDirections:
    """Take the truncated SVD of all samples together, whatever their labels.

    At most ``max-class-samples`` of them enter it. Fewer than ``min-subspace-samples`` give no
    vectors, as in a class. `spec` and `seen` are as in `class_subspaces`.
    """
    seen = seen or sample_vectors(samples, settings, scale, spec)
    if len(samples) < settings.profile.min_subspace_samples:
        return LeadingDirections(np.zeros((0, seen.view.features), np.float32), np.zeros(0))
    drawn = None
    if len(samples) > settings.profile.max_class_samples:
        rng = generator(settings.run.seed, "direction-samples", client=client)
        chosen = rng.choice(len(samples), settings.profile.max_class_samples, replace=False)
        drawn = np.sort(chosen)
    matrix = seen.of(drawn)
    vectors = leading_vectors(matrix, DIRECTIONS)
    squares = np.square(matrix @ vectors.T).sum(axis=0)
    shares = squares / max(float(np.square(matrix).sum()), np.finfo(np.float64).tiny)
    return LeadingDirections(vectors.astype(np.float32), shares)


def sample_vectors(
    samples: NDArray[Any], settings: Settings, scale: Rows = (), spec: SampleSpec | None = None
) -> SampleVectors:
    """Return the vectors of samples that the settings have subspaces made of; made when asked."""
    modality, seed = settings.data.modality, settings.run.seed
    spec = spec or load_modality(modality).spec(samples)
    return SampleVectors(
        make_view(view_name(settings.profile), modality, spec, seed), samples, scale
    )


def look_features(
    samples: NDArray[Any],
    settings: Settings,
    scale: Rows = (),
    spec: SampleSpec | None = None,
    seen: SampleVectors | None = None,
) -> NDArray[np.float64]:
    """Features of samples (n, k) by which a client tells whether its classes look otherwise."""
    seen = seen or sample_vectors(samples, settings, scale, spec)
    view = seen.view
    shape = view.shape if math.prod(view.shape) == view.features else (view.features,)
    rng = generator(settings.run.seed, "look-projections")
    return features_of(seen.of(), shape, rng)


def looks_of(
    data: LabelledSamples,
    settings: Settings,
    num_classes: int,
    scale: Rows = (),
    spec: SampleSpec | None = None,
    seen: SampleVectors | None = None,
) -> NDArray[np.float64]:
    """Say how the classes look; those with fewer than ``min-subspace-samples`` are kept back."""
    features = look_features(data.samples, settings, scale, spec, seen)
    least = settings.profile.min_subspace_samples
    return Looks.of(features, data.labels, num_classes, least).numbers()


def make_profile(
    before: Mapping[str, Weights],
    after: Mapping[str, Weights],
    data: LabelledSamples,
    settings: Settings,
    *,
    client: str,
    num_classes: int,
    coordinate_seed: int,
    gradient_fraction: float,
    scale: Rows,
    spec: SampleSpec | None = None,
    directions: bool = False,
    looks: bool = False,
) -> Profile:
    """Compute a client's profile (Algorithm 1, lines 5-10).

    `before` is the common single-encoder start theta0, `after` what the warm-up made of it.
    `directions` says whether those of all samples are wanted, and `looks` whether how classes look.
    """
    update = np.concatenate([after[part].floats - before[part].floats for part in before])
    chosen = sparse_coordinates(len(update), gradient_fraction, coordinate_seed)
    seen = sample_vectors(data.samples, settings, scale, spec)
    rng = generator(settings.run.seed, "subspace-samples", client=client)
    vectors, classes = class_subspaces(data, settings, rng, scale, spec, seen)
    counts = np.bincount(data.labels, minlength=num_classes).astype(np.int64)
    of_all = None
    if directions:
        of_all = leading_directions(data.samples, settings, client, scale, spec, seen)
    told = looks_of(data, settings, num_classes, scale, spec, seen) if looks else None
    return Profile(update[chosen], vectors, classes, counts, after["primary"], of_all, told)
