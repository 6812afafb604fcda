"""Clients without labels have a cluster, and take no part."""

import json
import logging
import shutil

import living
import numpy as np
import pytest
from living import lines
from memory_grid import TRAINING, MemoryGrid, quick_settings, replace_array, run_quickly
from sklearn.datasets import load_digits

from feddag_flwr.engine.runs import build_strategy, open_run
from feddag_flwr.inference.served import load_served
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import SettingsError

pytestmark = pytest.mark.integration

ALL = "round-log, checkpoints, closing-table"
LATE = living.LATE | {"newcomers_unlabelled": True, "unlabelled": "place"}


def test_newcomers_without_labels_are_placed_where_they_belong_and_left_in_peace(
    tmp_path, caplog, capsys
):
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, grid = run_quickly(tmp_path, **LATE | {"observers": ALL})
    placed = strategy.context.unlabelled
    assert len(placed) == 3
    assert not placed.keys() & (strategy.state.clients.keys() | strategy.state.assignments.keys())
    groups = strategy.context.true_groups
    homes = {groups[name]: cluster for name, cluster in strategy.state.assignments.items()}
    for name, each in placed.items():
        assert each.cluster == homes[groups[name]]
        assert each.sure > 0.9
        assert f"{name}, unlabelled: cluster {each.cluster}, " in caplog.text
    log = lines(strategy)
    assert log[2]["unlabelled"].keys() == placed.keys()
    assert "unlabelled" not in log[1]
    nodes = {strategy.context.clients.nodes[name] for name in placed}
    asked = {action for action, node in grid.sent if node in nodes}
    assert asked == {"query.describe", "query.directions"}
    assert not placed.keys() & log[-1]["all"]["by-client"].keys()
    summary = json.loads((strategy.folder.path / "summary.json").read_text())
    assert summary["unlabelled"].keys() == placed.keys()
    name = min(placed)
    assert f"client {name}, unlabelled: cluster" in capsys.readouterr().out
    assert load_served(strategy.folder.path, client=name).cluster == placed[name].cluster


def test_the_order_of_replies_changes_nothing(tmp_path):
    one, _ = run_quickly(tmp_path, name="one", grid_seed=1, **LATE | {"observers": ALL})
    two, _ = run_quickly(tmp_path, name="two", grid_seed=2, **LATE | {"observers": ALL})
    for path in ("metrics.jsonl", "summary.json", "checkpoints/round-000003/manifest.json"):
        assert (one.folder.path / path).read_bytes() == (two.folder.path / path).read_bytes(), path


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_is_the_one_that_nobody_stopped(tmp_path, stop):
    changes = LATE | {"observers": ALL, "num_rounds": 5, "evaluate_every": 5, "keep_checkpoints": 9}
    whole, _ = run_quickly(tmp_path, name="whole", **changes)
    path = tmp_path / "stopped"
    shutil.copytree(whole.folder.path, path)
    for later in range(stop + 1, 6):
        shutil.rmtree(path / "checkpoints" / f"round-{later:06d}")
    settings = quick_settings(run_dir=str(tmp_path), resume=str(path), **changes)
    strategy = open_run(settings)
    strategy.start(MemoryGrid(settings))
    for file in ("metrics.jsonl", "summary.json", "checkpoints/round-000005/manifest.json"):
        assert (path / file).read_bytes() == (whole.folder.path / file).read_bytes(), file


def spoilt(key, values):
    def tamper(partition, action, reply):
        if action == "query.directions":
            array = np.array(reply.content.array_records["arrays"][key].numpy())
            return replace_array(reply, key, values(array))
        return reply

    return tamper


@pytest.mark.parametrize(
    ("key", "values", "reason"),
    [
        ("directions", lambda a: np.full_like(a, np.nan), "NaN or infinite"),
        ("directions", lambda a: a[:, :-1], "shape"),
        ("directions", lambda a: 2 * a, "the directions are not orthonormal"),
        ("directions", lambda a: np.repeat(a[:1], len(a), 0), "the directions are not orthonormal"),
        ("number.shares", lambda a: -a, "must be above 0"),
        ("number.shares", lambda a: 9 * a, "must be above 0 and add up to 1"),
        ("number.shares", lambda a: a[:0], "array 'directions' has"),
        ("number.shares", lambda a: np.resize(a, 99), "bytes"),
    ],
)
def test_a_newcomer_that_lies_costs_its_own_place(tmp_path, caplog, key, values, reason):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, tamper=spoilt(key, values), **LATE)
    assert not strategy.context.unlabelled
    assert reason in caplog.text
    assert "client client-" in caplog.text
    assert len(strategy.state.assignments) == 6
    assert lines(strategy)[-1]["replied"] == 6


def test_everybody_without_labels_follows_when_all_are_clustered_anew(tmp_path):
    changes = LATE | {"recluster_share": 0.01, "num_rounds": 4, "evaluate_every": 4}
    changes |= {"drift_share": 0.34, "drift_round": 2}
    strategy, _ = run_quickly(tmp_path, **changes)
    assert len(strategy.context.unlabelled) == 3
    homes = set(strategy.state.assignments.values())
    assert {each.cluster for each in strategy.context.unlabelled.values()} <= homes


def test_refused_by_default_and_by_algorithms_that_place_nobody_so(tmp_path, caplog):
    with pytest.raises(SettingsError, match="needs unlabelled = 'place'"):
        quick_settings(**LATE | {"unlabelled": "refuse"})
    with pytest.raises(SettingsError, match="needs newcomer-share above 0"):
        quick_settings(**LATE | {"newcomer_share": 0.0})
    changes = LATE | {"algorithm": "fedavg"}
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, **changes)
    assert "it has no labels, and such are not placed" in caplog.text
    assert not strategy.context.unlabelled


# -- own data --------------------------------------------------------------------------------------

DIGITS = load_digits()
OWN = {
    "scenario": "own",
    "dataset": "npz",
    "num_clients": 7,
    "model": "small",
    "unlabelled": "place",
    "num_rounds": 4,
    "evaluate_every": 4,
    "participation": 1.0,
}


def pixels_of(digits, start=0, size=30):
    rows = np.concatenate(
        [np.flatnonzero(DIGITS.target == d)[start : start + size] for d in digits]
    )
    return (DIGITS.images[rows] * (255 / 16)).astype(np.uint8), DIGITS.target[rows]


def write(path, digits, *, labels=True):
    pixels, target = pixels_of(digits)
    names = np.array([f"digit {d}" for d in digits])
    of_labels = {"labels": np.searchsorted(digits, target), "class_names": names}
    np.savez(path, images=pixels, **(of_labels if labels else {}))


@pytest.fixture
def hospital(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for ward in range(6):
        write(folder / f"ward-{ward}.npz", [0, 1] if ward < 3 else [1, 7, 8])
    write(folder / "ward-9.npz", [1, 7, 8], labels=False)
    return folder


def test_an_archive_without_labels_is_placed_and_trains_once_it_has_some(
    tmp_path, hospital, caplog
):
    trained = []

    def label(partition, action, reply):
        if action in TRAINING:
            trained.append(partition)
            if trained.count(0) == 2:
                write(hospital / "ward-9.npz", [1, 7, 8])
        return reply

    settings = quick_settings(run_dir=str(tmp_path), data_dir=str(hospital), **OWN)
    strategy = build_strategy(settings, RunFolder(settings))
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy.start(MemoryGrid(settings, tamper=label))
    assert "ward-9, unlabelled: cluster 1, " in caplog.text
    assert not strategy.context.unlabelled
    log = lines(strategy)
    assert log[1]["unlabelled"]["ward-9"]["cluster"] == 1
    assert "ward-9" not in log[2]["sampled"]
    assert strategy.state.assignments["ward-9"] == 1
    assert "ward-9" in log[-1]["all"]["by-client"]


def test_without_the_setting_an_archive_without_labels_costs_that_client_alone(
    tmp_path, hospital, caplog
):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, data_dir=str(hospital), **OWN | {"unlabelled": "refuse", "num_rounds": 1}
        )
    assert "no array 'labels'" in caplog.text
    assert len(strategy.state.clients) == 6
