"""Phase 4 where there are more clients than angles are kept of."""

import numpy as np

from feddag_flwr.algorithms.feddag import clustering_result
from feddag_flwr.algorithms.feddag.clustering_result import draw_graph
from feddag_flwr.clustering import complementarity
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces


def test_few_of_each_cluster_are_compared(monkeypatch):
    rng = np.random.default_rng(1)
    bases = rng.standard_normal((12, 2, 1, 5)).astype(np.float32)
    counts, labels = rng.integers(1, 9, (12, 2)), np.arange(12) % 3
    profiles, settings = ClassSubspaces(bases, counts, "vectors"), Settings.from_run_config({})
    whole = draw_graph(settings, profiles, labels)
    monkeypatch.setattr(clustering_result, "ANGLES_KEPT", 11)
    monkeypatch.setattr(complementarity, "PAIRED", 1)
    some = draw_graph(settings, profiles, labels)
    one, other = complementarity.drawn_members(labels)[:2]
    vectors = (
        bases[[one, other], :, 0] / np.linalg.norm(bases[[one, other], :, 0], axis=-1)[..., None]
    )
    angles = np.degrees(np.arccos(np.abs((vectors[0] * vectors[1]).sum(axis=-1))))
    between = some.alignment[labels[one], labels[other]]
    np.testing.assert_allclose(between, 1.0 - angles / 90.0, rtol=1e-5)
    np.testing.assert_array_equal(some.demand, whole.demand)
    assert not np.allclose(some.alignment, whole.alignment)
