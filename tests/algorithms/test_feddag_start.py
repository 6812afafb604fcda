"""What clusters and encoders a run of FedDAG starts with."""

import numpy as np
import pytest
from memory_grid import array_of, run_quickly

from feddag_flwr.clustering.threshold import threshold_grid
from feddag_flwr.models.flat import get_parts

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0.5, [0.5, 1.0]), (0.25, [0.25, 0.5, 0.75, 1.0]), (0.3, [0.3, 0.6, 0.9]), (0.0, None)],
)
def test_threshold_grid(step, expected):
    assert threshold_grid(step) == expected


def test_the_default_grid_is_that_of_the_paper():
    grid = threshold_grid(0.05)
    assert len(grid) == 20
    assert grid[0] == 0.05
    assert grid[-1] == 1.0


def test_primary_encoders_start_as_the_weighted_mean_of_the_warmed_up_ones(tmp_path):
    encoders, counts = {}, {}

    def tamper(partition, action, reply):
        if action == "train.profile":
            encoders[f"client-{partition}"] = array_of(reply, "encoder.floats").astype(float)
            counts[f"client-{partition}"] = array_of(reply, "counts").sum()
        return reply

    strategy, _ = run_quickly(tmp_path, tamper=tamper, num_rounds=0)
    assert strategy.state.num_clusters == 3
    for cluster, model in enumerate(strategy.state.models):
        members = [n for n, z in strategy.state.assignments.items() if z == cluster]
        expected = np.average(
            [encoders[name] for name in members], axis=0, weights=[counts[n] for n in members]
        )
        np.testing.assert_allclose(model["primary"].floats, expected, atol=1e-7)
    everybody = np.average(
        [encoders[name] for name in encoders], axis=0, weights=[counts[n] for n in encoders]
    )
    first = strategy.state.models[0]
    np.testing.assert_allclose(first["secondary"].floats, everybody, atol=1e-7)
    for model in strategy.state.models[1:]:
        assert (model["secondary"].floats == first["secondary"].floats).all()
        assert (model["classifier"].floats == first["classifier"].floats).all()


def test_secondary_encoders_can_start_at_random(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=0, secondary_start="random")
    start = get_parts(strategy.context.initial_model(dual=True))["secondary"]
    assert all(model["secondary"].equals(start) for model in strategy.state.models)


def test_random_initialisation_starts_all_clusters_alike(tmp_path):
    strategy, _ = run_quickly(tmp_path, num_rounds=0, initialisation="random", diversity=0.1)
    one, two = strategy.state.models[:2]
    assert (one["primary"].floats == two["primary"].floats).all()
    assert (one["primary"].floats != one["secondary"].floats).any()
