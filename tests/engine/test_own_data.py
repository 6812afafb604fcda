"""The scenario own: each client has its own file, with classes of its own."""

import logging

import numpy as np
import pytest
from memory_grid import run_quickly
from sklearn.datasets import load_digits

from feddag_flwr.engine.registration import FederationError

pytestmark = pytest.mark.integration

DIGITS = load_digits()


def write_client(path, digits, names, size=60, images=None):
    rng = np.random.default_rng(len(names))
    chosen = np.concatenate([np.flatnonzero(DIGITS.target == d)[:size] for d in digits])
    rng.shuffle(chosen)
    pixels = (DIGITS.images[chosen] * (255 / 16)).astype(np.uint8) if images is None else images
    labels = np.array([digits.index(d) for d in DIGITS.target[chosen]])
    np.savez(path, images=pixels, labels=labels, class_names=np.array(names))


@pytest.fixture
def hospital(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for ward in range(3):
        write_client(folder / f"ward-{ward}.npz", [0, 1], ["zero", "one"])
    for ward in range(3, 6):
        # The same class 1 stands second here and first there: it is matched by name.
        write_client(folder / f"ward-{ward}.npz", [1, 7, 8], ["one", "seven", "eight"])
    return folder


OWN = {"scenario": "own", "dataset": "npz", "num_clients": 6, "model": "small"}


def test_classes_are_matched_by_name_and_clusters_found(tmp_path, hospital):
    # Three and three that share a class: chance deals as even a table once in 31 times.
    strategy, _ = run_quickly(tmp_path, data_dir=str(hospital), **OWN)
    assert strategy.state.class_names == ("eight", "one", "seven", "zero")
    assert list(strategy.state.clients) == [f"ward-{i}" for i in range(6)]
    clusters = [strategy.state.assignments[f"ward-{i}"] for i in range(6)]
    assert clusters == [0, 0, 0, 1, 1, 1]
    assert strategy.context.true_groups == {}
    assert strategy.evaluator.evaluations["ward-0"].totals.tolist()[1] > 0


def test_one_faulty_file_costs_that_client_alone(tmp_path, hospital, caplog):
    (hospital / "ward-4.npz").write_bytes(b"not an archive")
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, data_dir=str(hospital), **OWN)
    assert sorted(strategy.state.clients) == [f"ward-{i}" for i in (0, 1, 2, 3, 5)]
    assert "ward-4.npz" in caplog.text


def test_images_of_other_channels_cost_that_client_alone(tmp_path, hospital, caplog):
    rng = np.random.default_rng(0)
    odd = rng.integers(0, 256, (120, 9, 8, 2)).astype(np.uint8)
    write_client(hospital / "ward-2.npz", [0, 1], ["zero", "one"], images=odd)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, data_dir=str(hospital), **OWN)
    assert "ward-2" not in strategy.state.clients
    assert "client ward-2 is left out: samples are 9 x 8 with 2 channel(s)" in caplog.text


@pytest.mark.parametrize("sizes", [(6, 14), (5, 20), (3, 14)])
def test_hospitals_that_differ_in_nothing_but_their_size_are_one_cluster(tmp_path, sizes, caplog):
    folder, rng = tmp_path / "data", np.random.default_rng(1)
    folder.mkdir()
    left = [rng.permutation(np.flatnonzero(DIGITS.target == digit)) for digit in range(10)]
    for ward, size in enumerate(sizes * 6):
        mine = np.concatenate([of_digit[:size] for of_digit in left])
        left = [of_digit[size:] for of_digit in left]
        pixels = (DIGITS.images[mine] * (255 / 16)).astype(np.uint8)
        np.savez(folder / f"ward-{ward:02}.npz", images=pixels, labels=DIGITS.target[mine])
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path,
            data_dir=str(folder),
            num_rounds=1,
            warmup_epochs=3,
            **OWN | {"num_clients": 12},
        )
    assert len(strategy.state.clients) == 12
    assert strategy.state.num_clusters == 1
    assert "1 clusters at threshold" in caplog.text
    assert "no view shows more than chance (class-conditional p = 0." in caplog.text


def test_a_scenario_that_cannot_work_is_told_once(tmp_path, caplog):
    with (
        caplog.at_level(logging.WARNING, logger="flwr"),
        pytest.raises(FederationError, match="0 usable clients of 6 nodes"),
    ):
        run_quickly(tmp_path, num_clients=6, min_class_samples=900)
    assert caplog.text.count("lower min-class-samples or num-clients") == 1
    assert "5 more left out for the same error" in caplog.text
