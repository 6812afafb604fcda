import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from feddag_flwr.data import partition, scenarios
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import DataError, Dataset, LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings


def _settings(**values):
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


def _client(settings, partition_id):
    return load_client_data(
        settings, {"partition-id": partition_id, "num-partitions": settings.run.num_clients}
    )


def _all(settings):
    return [_client(settings, index) for index in range(settings.run.num_clients)]


def _rows(part):
    """Count each (image, label) of a part, as a set would but with repeats."""
    return Counter(
        (image.tobytes(), int(label))
        for image, label in zip(part.samples, part.labels, strict=True)
    )


@pytest.mark.parametrize("scenario", ["label-skew", "lda"])
def test_clients_share_out_the_source_exactly(scenario):
    settings = _settings(scenario=scenario, dirichlet_alpha=0.25)
    dataset = load_dataset(settings)
    clients = _all(settings)
    assert sum((_rows(client.train) for client in clients), Counter()) == _rows(dataset.train)
    for client in clients:
        held = set(client.train.labels.tolist())
        expected = np.isin(dataset.test.labels, list(held))
        assert client.test.labels.tolist() == dataset.test.labels[expected].tolist()
        assert (client.test.samples == dataset.test.samples[expected]).all()
        assert set(client.test.labels.tolist()) == held
        assert client.class_names == dataset.class_names


@pytest.mark.parametrize(("rho", "per_group"), [(20.0, 2), (30.0, 3)])
def test_label_skew_groups(rho, per_group):
    settings = _settings(label_skew=rho, num_clients=23, client_groups=5)
    clients = _all(settings)
    sizes = Counter(client.true_group for client in clients)
    assert sorted(sizes) == [0, 1, 2, 3, 4]
    assert sorted(sizes.values()) == [4, 4, 5, 5, 5]
    classes = {}
    for client in clients:
        held, counts = np.unique(client.train.labels, return_counts=True)
        assert len(held) == per_group
        assert counts.min() >= settings.data.min_class_samples
        assert classes.setdefault(client.true_group, held.tolist()) == held.tolist()
    assert {label for held in classes.values() for label in held} == set(range(10))
    assert len({tuple(held) for held in classes.values()}) == 5


def test_lda_has_no_true_group_and_keeps_the_floor():
    clients = _all(
        _settings(scenario="lda", num_clients=50, dirichlet_alpha=0.25, min_class_samples=9)
    )
    assert {client.true_group for client in clients} == {None}
    assert min(len(client.train) for client in clients) >= 9


def test_names_sort_as_partitions_do():
    settings = _settings(num_clients=101, min_class_samples=1)
    names = [_client(settings, index).name for index in (0, 7, 10, 100)]
    assert names == ["client-000", "client-007", "client-010", "client-100"]
    assert _client(_settings(num_clients=10), 9).name == "client-9"
    given = load_client_data(settings, {"partition-id": 3, "client-name": "clinic"})
    assert given.name == "clinic"
    assert (given.train.samples == _client(settings, 3).train.samples).all()


_FRESH = """
import hashlib
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
for scenario in ("label-skew", "lda"):
    settings = Settings.from_run_config({"scenario": scenario})
    for index in (11, 3):
        data = load_client_data(settings, {"partition-id": index, "num-partitions": 20})
        print(hashlib.sha256(data.train.samples.tobytes() + data.test.labels.tobytes()).hexdigest())
"""


def test_parts_are_the_same_in_a_fresh_process_and_in_any_order():
    output = subprocess.run(
        [sys.executable, "-c", _FRESH],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    here = {}
    for scenario in ("lda", "label-skew"):
        settings = _settings(scenario=scenario)
        for index in (3, 0, 11):
            data = _client(settings, index)
            digest = hashlib.sha256(data.train.samples.tobytes() + data.test.labels.tobytes())
            here[scenario, index] = digest.hexdigest()
    assert output == [here[s, i] for s in ("label-skew", "lda") for i in (11, 3)]


@pytest.mark.parametrize("scenario", ["label-skew", "lda"])
def test_another_seed_gives_other_parts(scenario):
    first = [len(client.train) for client in _all(_settings(scenario=scenario, seed=1))]
    second = [len(client.train) for client in _all(_settings(scenario=scenario, seed=2))]
    assert first != second


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"partition-id": 0, "num-partitions": 10},
            r"10 nodes \(num-partitions\), but num-clients = 20",
        ),
        ({"partition-id": 20, "num-partitions": 20}, "partition-id = 20: expected 0 to 19"),
        ({"partition-id": -1, "num-partitions": 20}, "partition-id = -1: expected 0 to 19"),
        ({"partition-id": "3"}, "partition-id = '3': expected an integer from 0 to 19"),
        ({"partition-id": True}, "partition-id = True: expected an integer"),
        ({}, "partition-id = None: expected an integer"),
        ({"partition-id": 0, "client-name": ""}, "client-name = '': expected a string"),
        ({"data-path": "x"}, "data-path = 'x': only scenario = 'own' takes it"),
    ],
)
def test_node_config_faults_are_named(node, message):
    with pytest.raises(DataError, match=message):
        load_client_data(_settings(), node)


def test_too_few_samples_are_named():
    with pytest.raises(DataError, match=r"class '.' has .* need min-class-samples = 60 each"):
        _client(_settings(min_class_samples=60), 0)
    with pytest.raises(DataError, match="training samples, but 20 clients need"):
        _client(_settings(min_class_samples=600, scenario="lda"), 0)


def test_client_without_test_images_is_named(monkeypatch):
    images = LabelledSamples(np.zeros((40, 1, 4, 4), np.uint8), np.repeat(np.arange(2), 20))
    dataset = Dataset("npz", images, images.select(np.flatnonzero(images.labels == 0)), ("a", "b"))
    monkeypatch.setattr(scenarios, "load_dataset", lambda settings: dataset)
    settings = _settings(num_clients=2, client_groups=2, label_skew=50.0)
    faults = 0
    for index, name in enumerate(("client-0", "client-1")):
        try:
            _client(settings, index)
        except DataError as error:
            faults += 1
            assert f"client '{name}': no test samples of the classes it holds" in str(error)
    assert faults == 1


@pytest.mark.parametrize("num_clients", [100, 10_000])
def test_a_part_costs_the_same_among_many_clients(monkeypatch, num_clients):
    labels = np.arange(60_000) % 10
    images = LabelledSamples(np.zeros((60_000, 1, 1, 1), np.uint8), labels)
    dataset = Dataset("npz", images, images, tuple("0123456789"))
    monkeypatch.setattr(scenarios, "load_dataset", lambda settings: dataset)
    settings = _settings(num_clients=num_clients, min_class_samples=1, label_skew=20.0)
    _client(settings, 0)  # makes the common table
    purposes = []
    monkeypatch.setattr(
        partition,
        "generator",
        lambda seed, purpose: purposes.append(purpose) or generator(seed, purpose),
    )
    data = _client(settings, num_clients - 1)
    held = sorted(set(data.train.labels.tolist()))
    assert purposes == [f"split-class-{label}" for label in held]
    assert len(held) == 2


def _own_npz(root, names=("b", "a")):
    for value, name in enumerate(names):
        images = np.full((12, 4, 4), value, np.uint8)
        np.savez(root / f"{name}.npz", images=images, labels=np.arange(12) % 3)


def _own_folders(root):
    for client, classes in {"west": ("cat", "dog"), "east": ("ant",)}.items():
        for name in classes:
            folder = root / client / name
            folder.mkdir(parents=True)
            for index in range(4):
                Image.new("L", (5, 5), 100 * (client == "west") + index).save(
                    folder / f"{index}.png"
                )


def test_own_npz_in_simulation(tmp_path):
    _own_npz(tmp_path)
    settings = _settings(
        scenario="own", dataset="npz", data_dir=str(tmp_path), num_clients=2, client_groups=2
    )
    clients = _all(settings)
    assert [client.name for client in clients] == ["a", "b"]
    assert [client.train.samples.max() for client in clients] == [1, 0]
    assert np.bincount(clients[0].test.labels).tolist() == [1, 1, 1]
    assert len(clients[0].train) == 9
    assert clients[0].true_group is None
    assert clients[0].class_names == ("0", "1", "2")


def test_own_folders_in_simulation(tmp_path):
    _own_folders(tmp_path)
    settings = _settings(
        scenario="own", dataset="image-folder", data_dir=str(tmp_path), num_clients=2
    )
    east, west = _all(settings)
    assert (east.name, west.name) == ("east", "west")
    assert east.class_names == ("ant",)
    assert west.class_names == ("cat", "dog")
    assert (len(west.train), len(west.test)) == (6, 2)
    assert west.train.samples.min() >= 100


def test_own_data_in_deployment(tmp_path):
    _own_npz(tmp_path)
    settings = _settings(scenario="own", dataset="npz")
    path = str(tmp_path / "b.npz")
    assert load_client_data(settings, {"data-path": path}).name == "b"
    named = load_client_data(settings, {"data-path": path, "client-name": "ward"})
    assert named.name == "ward"
    folders = tmp_path / "site.v1"
    _own_folders(folders)
    settings = _settings(scenario="own", dataset="image-folder")
    assert load_client_data(settings, {"data-path": str(folders / "west")}).name == "west"


def test_own_data_faults_are_named(tmp_path):
    settings = _settings(scenario="own", dataset="npz", data_dir=str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"data-dir = .*none': no such folder .*\.npz files for e"):
        _client(settings, 0)
    with pytest.raises(DataError, match=r"data-dir = '': no such folder .*data-path in the node"):
        _client(_settings(scenario="own", dataset="image-folder"), 0)
    _own_npz(tmp_path)
    settings = _settings(scenario="own", dataset="npz", data_dir=str(tmp_path), num_clients=3,
                         client_groups=2)  # fmt: skip
    with pytest.raises(DataError, match=r"has 2 .npz files, but num-clients = 3"):
        _client(settings, 0)
    with pytest.raises(DataError, match=r"partition-id = None.*or data-path for scenario = 'own'"):
        load_client_data(settings, {})
    with pytest.raises(DataError, match=r"client 'gone': .*gone.npz: no such file"):
        load_client_data(settings, {"data-path": str(tmp_path / "gone.npz")})
    with pytest.raises(DataError, match=r"data-path = 3: expected a string"):
        load_client_data(settings, {"data-path": 3})
