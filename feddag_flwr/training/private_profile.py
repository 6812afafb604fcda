"""Phase 1 on a client whose profile is differentially private: noisy counts and subspaces alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import Rows, SampleSpec
from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.mechanism import ClassMoments, projection
from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.profile import Profile, subspace_size
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.subspace_view import SubspaceView
from feddag_flwr.training.profile import sample_vectors


def private_profile(
    data: LabelledSamples,
    settings: Settings,
    num_classes: int,
    scale: Rows = (),
    spec: SampleSpec | None = None,
    noise: GaussianNoise | None = None,
) -> Profile:
    """Make a profile that is (epsilon, delta)-differentially private.

    Two sets of training data are neighbours where one has one sample more; the proof is in
    `feddag_flwr.privacy.mechanism`. All samples enter, for drawing some would couple them. There
    is no update and no encoder. `spec` is as in `profile.class_subspaces`; `noise` is the operating
    system's but in tests.
    """
    budget = ProfileBudget.of(settings.privacy.profile_epsilon, settings.privacy.profile_delta)
    view = sample_vectors(data.samples, settings, scale, spec).view
    moments = class_moments(data, view, settings, num_classes, scale)
    noisy = moments.released(budget, noise or GaussianNoise())
    counts = noisy.told_counts()
    rows, classes = [np.zeros((0, moments.seconds.shape[1]))], []
    for label in np.flatnonzero(counts).tolist():
        most = subspace_size(settings.profile.subspace_size, int(counts[label]))
        rows.append(noisy.vectors(label, most))
        classes += [label] * len(rows[-1])
    vectors = np.concatenate(rows).astype(np.float32)
    nothing = np.zeros(0, dtype=np.float32)
    return Profile(nothing, vectors, np.array(classes, np.int64), counts, Weights(nothing))


def class_moments(
    data: LabelledSamples,
    view: SubspaceView,
    settings: Settings,
    num_classes: int,
    scale: Rows = (),
) -> ClassMoments:
    """Add up what the samples of each class are, without noise yet."""
    drawn = projection_of(view, settings)
    dimensions = view.features if drawn is None else len(drawn)
    moments = ClassMoments.none(num_classes, dimensions)
    for chunk in chunks_of(len(data)):
        rows = view.matrix(data.samples[chunk], scale)
        moments.add(rows if drawn is None else rows @ drawn.T, data.labels[chunk])
    return moments


def projection_of(view: SubspaceView, settings: Settings) -> NDArray[np.float64] | None:
    """Draw the projection that all clients of a run share; None where rows are short already."""
    rng = generator(settings.run.seed, "private-projection")
    return projection(view.features, settings.privacy.profile_dimensions, rng)
