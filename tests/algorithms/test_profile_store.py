"""What newcomers are placed by comes back from a checkpoint to the bit, whatever the fusion."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.profile_store import ProfileStore
from feddag_flwr.algorithms.feddag.profiling import Profiles
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.profile import LeadingDirections, Profile
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.newcomers import ProfileArrays, measure_newcomers
from feddag_flwr.similarity.proximity import measure_proximity

FOUNDERS, CLIENTS, CLASSES, FEATURES = 15, 21, 5, 10
NO_ENCODER = Weights(np.zeros(0, np.float32))


def profiles():
    """Profiles of clients of three kinds that look different; classes are held by chance."""
    rng = np.random.default_rng(1)
    counts = rng.integers(5, 60, (CLIENTS, CLASSES)) * (rng.random((CLIENTS, CLASSES)) < 0.6)
    counts[:, 0] = 20
    looks = rng.standard_normal((3, CLASSES, FEATURES))[np.arange(CLIENTS) % 3]
    vectors = looks + 0.1 * rng.standard_normal(looks.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)
    held = [np.flatnonzero(row) for row in counts]
    updates = rng.standard_normal((CLIENTS, 50)).astype(np.float32)
    return {
        f"client-{i:02d}": Profile(updates[i], vectors[i][held[i]], held[i], counts[i], NO_ENCODER)
        for i in range(CLIENTS)
    }


def some(whole, rows):
    names = sorted(whole)
    return Profiles.of({names[i]: whole[names[i]] for i in rows})


@pytest.mark.parametrize("fusion", ["evidence", "entropy", "data"])
def test_a_profile_store_comes_back_from_a_checkpoint_to_the_bit(fusion):
    options = {
        "angle": "vectors", "weight_delta": 0.6, "weight_scope": "shared",
        "fusion": fusion, "fusion_steps": 30, "false_positive_rate": 0.01,
    }  # fmt: skip
    first, second, third = (
        some(profiles(), np.arange(start, stop))
        for start, stop in ((0, FOUNDERS), (FOUNDERS, 18), (18, CLIENTS))
    )
    bases = first.bases
    subspaces = ClassSubspaces(bases, first.counts, options["angle"])
    proximity = measure_proximity(first.updates, subspaces, names=first.names, **options)
    stored = ProfileArrays.of(first.updates, bases, first.counts, proximity)
    one = ProfileStore(stored, list(first.names), 0.4, "average", options)
    assignments = {name: i % 3 for i, name in enumerate(first.names)}
    one.take_in(second)
    if fusion == "evidence":
        assert proximity.tree.root.view == "class-conditional"
        assert one.place(third, assignments) == dict(zip(third.names, (0, 1, 2), strict=True))

    saved = one.state_dict()
    kept = AlgorithmState(
        {group: load(save(arrays)) for group, arrays in saved.arrays.items()},
        json.loads(json.dumps(saved.notes, allow_nan=False)),
    )
    two = ProfileStore.from_state_dict(kept, "average", options)
    assert two.state_dict().notes == saved.notes
    assert two.names == one.names
    assert (two.arrays.tree is None) == (fusion != "evidence")
    rows = [
        measure_newcomers(
            each.arrays, third.updates, third.bases, third.counts, names=third.names, **options
        )
        for each in (one, two)
    ]
    for name, values in vars(rows[0]).items():
        np.testing.assert_array_equal(getattr(rows[1], name), values)
    assert one.place(third, assignments) == two.place(third, assignments)


def test_directions_and_looks_are_recalled_to_the_bit():
    """What some runs keep besides: of members, and of clients without labels."""
    whole, rng = profiles(), np.random.default_rng(2)
    for name, profile in whole.items():
        axes, _ = np.linalg.qr(rng.standard_normal((FEATURES, 3)))
        directions = LeadingDirections(
            np.ascontiguousarray(axes.T, np.float32), np.array([0.5, 0.2, 0.1])
        )
        whole[name] = replace(profile, directions=directions, looks=rng.random(9))
    options = {
        "angle": "vectors", "weight_delta": 0.6, "weight_scope": "shared",
        "fusion": "evidence", "fusion_steps": 30, "false_positive_rate": 0.01,
    }  # fmt: skip
    first, second = some(whole, np.arange(FOUNDERS)), some(whole, np.arange(FOUNDERS - 2, 18))
    subspaces = ClassSubspaces(first.bases, first.counts, options["angle"])
    proximity = measure_proximity(first.updates, subspaces, names=first.names, **options)
    residents = ProfileArrays.of(first.updates, first.bases, first.counts, proximity)
    newcomer = first.directions.only([4])
    one = ProfileStore(
        residents, list(first.names), 0.4, "average", options,
        first.directions, {"ward/9": newcomer}, dict(first.looks),
    )  # fmt: skip
    one.take_in(second)
    # Two have come in anew: their older rows stay without a name, and so do their directions.
    assert len(one.directions.samples) == len(one.names) == FOUNDERS + len(second.names)
    np.testing.assert_array_equal(
        one.present().directions.vectors[-1], second.directions.vectors[-1]
    )
    saved = one.state_dict()
    kept = AlgorithmState(
        {group: load(save(arrays)) for group, arrays in saved.arrays.items()},
        json.loads(json.dumps(saved.notes, allow_nan=False)),
    )
    two = ProfileStore.from_state_dict(kept, "average", options)
    for group, arrays in two.state_dict().arrays.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, saved.arrays[group][name])
    assert two.looks.keys() == set(some(whole, np.arange(18)).names)
    assignments = {name: i % 3 for i, name in enumerate(first.names)}
    placed = [
        each.place_unlabelled(["ward/9"], assignments, np.random.default_rng(0))
        for each in (one, two)
    ]
    assert placed[0] == placed[1]
    cluster, sure = placed[0]["ward/9"]
    assert cluster in {0, 1, 2}
    assert 0 <= sure <= 1
