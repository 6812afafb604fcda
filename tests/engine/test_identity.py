"""Whom a name belongs to, and who fits into a federation."""

import logging

import numpy as np
import pytest
from living import lines, renamed_grid
from memory_grid import (
    TRAINING,
    MemoryGrid,
    quick_settings,
)

from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.simulation.grid import FIRST_NODE

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("identity", ["name", "node"])
@pytest.mark.parametrize("first_has_left", [False, True])
def test_a_second_node_of_a_name(tmp_path, caplog, identity, first_has_left):
    changes = {"num_rounds": 3, "participation": 1.0, "evaluate_every": 3, "identity": identity}
    changes |= {"secondary": "none"}
    settings = quick_settings(run_dir=str(tmp_path), run_name="run", **changes)
    config = {"partition-id": 3, "num-partitions": settings.run.num_clients}
    grid, second = renamed_grid(settings, config)
    first = FIRST_NODE + 3

    def swap(partition, action, reply):
        if action in TRAINING:
            grid.connected.add(second)
            if first_has_left:
                grid.connected.discard(first)
        return reply

    grid.tamper = swap
    strategy = build_strategy(settings, RunFolder(settings))
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.start(grid)
    trained = [node for action, node in grid.sent if action in TRAINING]
    if first_has_left and identity == "name":
        assert f"client client-3 is on another node now: {second}, not {first}" in caplog.text
        assert trained.count(second) == 2  # found in round 1, trained in 2 and 3
        assert strategy.context.clients.nodes["client-3"] == second
    else:
        assert second not in trained
        assert strategy.context.clients.nodes["client-3"] == first
        assert "name 'client-3' belongs to another node already" in caplog.text
        assert "the server leaves this client out: client 'client-3': name" in caplog.text
    # Either way the client keeps its cluster and nobody else is touched.
    assert all("moved" not in line for line in lines(strategy)[1:])


def own_data_run(tmp_path, classes, shape, caplog):
    """Two good clients with own data; a third with `classes` and images of `shape` comes later."""
    rng = np.random.default_rng(1)
    for name, names, size in (("a", "xyz", (8, 8)), ("b", "xyz", (8, 8)), ("c", classes, shape)):
        labels = np.arange(30) % len(names)
        images = rng.integers(0, 255, (30, *size), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels, class_names=list(names))
    settings = quick_settings(
        run_dir=str(tmp_path), run_name="run", num_clients=2, client_groups=1, num_rounds=3,
        scenario="own", dataset="npz", participation=1.0,
    )  # fmt: skip
    configs = [{"data-path": str(tmp_path / f"{name}.npz")} for name in "abc"]
    grid = MemoryGrid(settings, node_configs=configs)
    late = max(grid.contexts)
    grid.connected.discard(late)

    def come(partition, action, reply):
        if action in TRAINING:
            grid.connected.add(late)
        return reply

    grid.tamper = come
    strategy = build_strategy(settings, RunFolder(settings))
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.start(grid)
    return strategy


@pytest.mark.parametrize(
    ("classes", "shape", "reason"),
    [
        ("xq", (8, 8), "class 'q' is unknown here; the federation has x, y, z"),
        ("xy", (8, 8, 2), "samples are 8 x 8 with 2 channel(s), those of the federation 8"),
    ],
)
def test_a_newcomer_that_does_not_fit_is_told_why(tmp_path, caplog, classes, shape, reason):
    strategy = own_data_run(tmp_path, classes, shape, caplog)
    assert sorted(strategy.state.clients) == ["a", "b"]
    assert f"client on node 103 is left out: client 'c': {reason}" in caplog.text
    assert f"the server leaves this client out: client 'c': {reason}" in caplog.text


@pytest.mark.parametrize("shape", [(8, 8), (9, 10)])
def test_a_newcomer_with_fewer_classes_and_images_of_any_size_fits(tmp_path, caplog, shape):
    strategy = own_data_run(tmp_path, "zy", shape, caplog)
    assert sorted(strategy.state.assignments) == ["a", "b", "c"]
