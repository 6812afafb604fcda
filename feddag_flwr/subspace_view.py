"""Which vectors of a sample the subspaces of phase 1 and of PACFL are of (setting ``view``).

Principal vectors of raw pixels are images of full size: of large ones they are costly to send and
show what is on them. So large images are made small first, or projected at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.modalities import Modality, Rows, SampleSpec, load_modality
from feddag_flwr.models.frozen import KIND, FrozenEncoder
from feddag_flwr.seeds import derived_seed
from feddag_flwr.training.profile_settings import ProfileSettings

# Most values of a sample whose subspaces are of the samples themselves: 3 x 32 x 32, which are the
# largest images of the data sets that Eq. 4 was tried on.
RAW_VALUES = 3 * 32 * 32
# Length of projected vectors: the cosine c of two vectors moves by sqrt((1 + c^2) / 1024), 0.03 to
# 0.04, as a standard deviation.
PROJECTED = 1024
# Samples that are looked at at a time.
CHUNK = 256


@dataclass(frozen=True)
class SubspaceView:
    """How a sample becomes a vector.

    Attributes
    ----------
    kind : str
        ``raw``, ``resized``, ``projected`` or ``encoder``.
    shape : tuple of int
        Of what a vector lists the values of.
    seed : int
        By which all clients draw the same projection.
    encoder : FrozenEncoder or None
        Whose features they are.
    """

    kind: str
    shape: tuple[int, ...]
    modality: Modality
    spec: SampleSpec
    seed: int
    encoder: FrozenEncoder | None = None

    @property
    def features(self) -> int:
        """Length d of a vector."""
        if self.kind == "raw":
            return self.modality.subspace_features(self.spec)
        return math.prod(self.shape)

    def matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return the vectors of samples, shape (n, d)."""
        if self.kind == "raw":
            return self.modality.subspace_matrix(samples, scale)
        if self.kind == "resized":
            return self.modality.reduced_matrix(samples, scale)
        if self.encoder is not None:
            return self._encoded(self.encoder, samples, scale)
        made = np.empty((len(samples), self.features))
        projection = _projection(self.modality.subspace_features(self.spec), self.seed)
        for start in range(0, len(samples), CHUNK):
            chunk = slice(start, start + CHUNK)
            rows = self.modality.subspace_matrix(samples[chunk], scale)
            made[chunk] = (projection @ rows.T).T
        return made

    def _encoded(
        self, encoder: FrozenEncoder, samples: NDArray[Any], scale: Rows
    ) -> NDArray[np.float64]:
        """Return the frozen encoder's features of images, standardised as a model's inputs are."""
        made = np.empty((len(samples), self.features))
        means, deviations = np.array(scale or ((0.0, 1.0),), dtype=np.float64).T
        for start in range(0, len(samples), CHUNK):
            chunk = samples[start : start + CHUNK]
            pixels = self.modality.subspace_matrix(chunk, scale).reshape(chunk.shape)
            inputs = (pixels - means[:, None, None]) / deviations[:, None, None]
            made[start : start + CHUNK] = encoder.features(inputs.astype(np.float32))
        return made

    def in_words(self) -> str:
        """Say what the vectors are."""
        values = self.modality.subspace_features(self.spec)
        what = {"resized": "samples made small", "projected": "random projections of samples"}
        if self.encoder is not None:
            what[KIND] = f"features of a frozen {self.encoder.model}"
        return (
            f"subspaces are of {what.get(self.kind, 'samples')}: {self.features:,} values of "
            f"{values:,} (setting view)"
        )


class SampleVectors:
    """A view's vectors of some samples; those that a network makes are made once each.

    Parameters
    ----------
    view : SubspaceView
    samples : ndarray, shape (n, ..)
    scale : tuple of rows
        The federation's.
    """

    def __init__(self, view: SubspaceView, samples: NDArray[Any], scale: Rows) -> None:
        self.view = view
        self._samples, self._scale = samples, scale
        self._made: NDArray[np.float64] | None = None
        self._there = np.zeros(len(samples), dtype=bool)

    def __len__(self) -> int:
        return len(self._samples)

    def of(self, chosen: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the vectors of the samples at `chosen`, in that order, or of all: shape (n, d)."""
        if self.view.encoder is None:
            samples = self._samples if chosen is None else self._samples[chosen]
            return self.view.matrix(samples, self._scale)
        if self._made is None:
            self._made = np.empty((len(self), self.view.features))
        wanted = np.arange(len(self)) if chosen is None else chosen
        missing = wanted[~self._there[wanted]]
        if len(missing):
            self._made[missing] = self.view.matrix(self._samples[missing], self._scale)
            self._there[missing] = True
        return self._made[wanted]


def make_view(name: str, modality: str, spec: SampleSpec, seed: int) -> SubspaceView:
    """Make the view that the setting ``view`` names, for samples of a spec.

    ``auto`` is ``raw`` for samples of up to `RAW_VALUES` values and where they cannot be made
    smaller, else ``resized``. What would not be shorter than raw is raw. A frozen
    encoder is named as `FrozenEncoder.parsed` reads it. `seed` is the run's.
    """
    kind_of_samples = load_modality(modality)
    if name.startswith(f"{KIND}|"):
        encoder = FrozenEncoder.parsed(name)
        size = encoder.feature_size(spec.shape)
        return SubspaceView(KIND, (size,), kind_of_samples, spec, seed, encoder)
    raw, reduced = kind_of_samples.subspace_features(spec), kind_of_samples.reduced_shape(spec)
    if name == "auto":
        name = "resized" if raw > RAW_VALUES else "raw"
    shapes = {"resized": spec.shape if reduced is None else reduced, "projected": (PROJECTED,)}
    shape = shapes.get(name, spec.shape)
    if name == "raw" or shape == spec.shape or math.prod(shape) >= raw:
        name, shape = "raw", spec.shape
    seed = derived_seed(seed, "subspace-projection")
    return SubspaceView(name, shape, kind_of_samples, spec, seed)


def view_name(profile: ProfileSettings) -> str:
    """Return what `make_view` takes: the view, with its encoder where it is one's features."""
    if profile.view != KIND:
        return profile.view
    return FrozenEncoder(profile.view_model, profile.view_digest, profile.view_weights).name


def view_features(name: str, modality: str, spec: SampleSpec) -> int:
    """Return the length of a view's vectors."""
    return make_view(name, modality, spec, 0).features


@lru_cache(maxsize=2)
def _projection(features: int, seed: int) -> Any:  # noqa: ANN401 - a sparse matrix of SciPy
    """Draw a sparse matrix, shape (PROJECTED, features), that keeps lengths on average."""
    from sklearn.random_projection import SparseRandomProjection

    drawn = SparseRandomProjection(PROJECTED, random_state=seed % 2**32)
    return drawn.fit(np.zeros((1, features))).components_
