"""A federation that has grown is clustered anew."""

import logging

import numpy as np
import pytest
from living import LATE, groups_of, lines
from memory_grid import (
    TRAINING,
    MemoryGrid,
    quick_settings,
    run_quickly,
)

from feddag_flwr.aggregation import Weights
from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.simulation.grid import FIRST_NODE

pytestmark = pytest.mark.integration


def test_growth_clusters_anew_and_leaves_everything_where_nothing_has_changed(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, **LATE | {"recluster_share": 0.3})
    assert caplog.text.count("clustered anew: nobody moves") == 1
    quiet, _ = run_quickly(tmp_path, name="quiet", **LATE | {"recluster_share": 0.0})
    assert strategy.state.assignments == quiet.state.assignments
    for one, two in zip(strategy.state.models, quiet.state.models, strict=True):
        assert all((one[part].floats == two[part].floats).all() for part in one)


def test_a_group_that_comes_late_gets_a_cluster_of_its_own(tmp_path):
    """Clients of a third group join two: placed with the nearest at first, then clustered anew."""
    first, _ = run_quickly(tmp_path, name="all", **LATE | {"newcomer_share": 0.0, "num_rounds": 0})
    third = [name for name, group in first.context.true_groups.items() if group == 2]
    settings = quick_settings(
        run_dir=str(tmp_path),
        run_name="late",
        **LATE | {"newcomer_share": 0.0, "num_rounds": 4, "recluster_share": 0.3},
        min_clients=2,
    )
    grid = MemoryGrid(settings)
    late = {FIRST_NODE + int(name.removeprefix("client-")) for name in third}
    grid.connected -= late

    def come(partition, action, reply):
        if action in TRAINING:
            grid.connected |= late
        return reply

    grid.tamper = come
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    assert strategy.state.num_clusters == 3
    assert lines(strategy)[0]["clusters"] == 2
    groups = groups_of(strategy, strategy.state.assignments)
    assert all(len(clusters) == 1 for clusters in groups.values())
    # The two old clusters keep their numbers.
    for name, cluster in lines(strategy)[0]["moved"].items():
        assert strategy.state.assignments[name] == cluster


def test_a_new_cluster_starts_from_the_mean_of_its_members_models(tmp_path):
    strategy, _ = run_quickly(tmp_path, **LATE | {"newcomer_share": 0.0, "num_rounds": 1})
    names = sorted(strategy.state.clients)[:3]
    strategy.state.assignments |= dict(zip(names, (0, 1, 1), strict=True))
    for cluster, model in enumerate(strategy.state.models):
        for part in model:
            model[part] = Weights(np.full(4, float(cluster), np.float32))

    class OneCluster:
        def clusters(self):
            return [names]

    (model,) = strategy.algorithm._inherited_models(OneCluster())
    sizes = [strategy.state.clients[name].train_samples for name in names]
    expected = (sizes[1] + sizes[2]) / sum(sizes)
    np.testing.assert_allclose(model["primary"].floats, expected, rtol=1e-6)
