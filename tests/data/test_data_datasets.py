import importlib
import os
from pathlib import Path

import numpy as np
import pytest

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import DataError
from feddag_flwr.settings import Settings

REAL = Path(os.environ.get("FEDDAG_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_real = pytest.mark.skipif(
    not (REAL / "FashionMNIST/raw").is_dir(),
    reason="Fashion-MNIST is missing: set FEDDAG_TEST_DATA to the folder that has FashionMNIST/raw",
)


def _settings(**values):
    return Settings.from_run_config({key.replace("_", "-"): value for key, value in values.items()})


def test_digits_are_split_once():
    dataset = load_dataset(_settings())
    assert load_dataset(_settings(num_clients=7)) is dataset
    assert dataset.sample_shape == (1, 8, 8)
    assert dataset.train.samples.dtype == np.uint8
    assert dataset.train.samples.max() == 255
    assert dataset.class_names == tuple("0123456789")
    assert len(dataset.train) + len(dataset.test) == 1797
    train, test = np.bincount(dataset.train.labels), np.bincount(dataset.test.labels)
    assert (np.abs(test - 0.25 * (train + test)) <= 0.5).all()


def test_digits_split_follows_seed_and_fraction():
    first = load_dataset(_settings(seed=1)).test
    assert (load_dataset(_settings(seed=2)).test.samples.shape) == first.samples.shape
    assert (load_dataset(_settings(seed=2)).test.samples != first.samples).any()
    assert len(load_dataset(_settings(test_fraction=0.5)).test) > 1.9 * len(first)


def test_npz_source_with_hold_out(tmp_path):
    labels = np.repeat([0, 1], 8)
    np.savez(tmp_path / "a.npz", images=np.zeros((16, 4, 4), np.uint8), labels=labels)
    dataset = load_dataset(_settings(dataset="npz", data_dir=str(tmp_path / "a.npz")))
    assert dataset.name == "npz"
    assert np.bincount(dataset.test.labels).tolist() == [2, 2]
    assert np.bincount(dataset.train.labels).tolist() == [6, 6]


def test_hold_out_needs_two_of_a_class(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))
    with pytest.raises(DataError, match="dataset 'npz': has no test part and none can be held out"):
        load_dataset(_settings(dataset="npz", data_dir=str(tmp_path / "a.npz")))


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "cifar100", "svhn"])
def test_missing_data_names_data_dir_and_download(tmp_path, name):
    with pytest.raises(DataError, match=f"data-dir = .*{name}.*not found.*download = true") as e:
        load_dataset(_settings(dataset=name, data_dir=str(tmp_path / "nowhere")))
    assert str(tmp_path / "nowhere") in str(e.value)
    assert not (tmp_path / "nowhere").exists()


def test_damaged_data_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"\0\0\x08\x03\0\0\0\x05")
    with pytest.raises(DataError, match="'fashion-mnist' could not be read; delete its files"):
        load_dataset(_settings(dataset="fashion-mnist", data_dir=str(tmp_path)))


def test_failed_download_is_named(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        assert kwargs["download"] is True
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
    with pytest.raises(DataError, match=r"could not be downloaded or read .*no network"):
        load_dataset(_settings(dataset="cifar10", data_dir=str(tmp_path), download=True))


class _Fake:
    """Holds arrays as torchvision's data sets do."""

    def __init__(self, root, *, download, train=None, split=None):
        part = train if split is None else split == "train"
        count = 20 if part else 10
        pixels = np.arange(count * 32 * 32 * 3, dtype=np.int64) % 251
        labels = np.arange(count) % 10
        if split is None:
            self.data = pixels.reshape(count, 32, 32, 3).astype(np.uint8)
            self.targets = labels.tolist()
            self.classes = [f"class {label}" for label in range(10)]
        else:
            self.data = pixels.reshape(count, 3, 32, 32).astype(np.uint8)
            self.labels = labels


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_colour_sources_come_channels_first(tmp_path, monkeypatch, name):
    monkeypatch.setattr(f"torchvision.datasets.{name.upper()}", _Fake)
    dataset = load_dataset(_settings(dataset=name, data_dir=str(tmp_path / name)))
    assert dataset.sample_shape == (3, 32, 32)
    assert (len(dataset.train), len(dataset.test)) == (20, 10)
    assert dataset.train.samples.flags.c_contiguous
    assert dataset.train.labels.tolist() == [*range(10), *range(10)]
    fake = _Fake("", download=False, **({"split": "train"} if name == "svhn" else {"train": True}))
    expected = fake.data[3, 2, 5, 7] if name == "svhn" else fake.data[3, 5, 7, 2]
    assert dataset.train.samples[3, 2, 5, 7] == expected
    assert dataset.class_names[3] == ("3" if name == "svhn" else "class 3")


@needs_real
def test_real_fashion_mnist():
    dataset = load_dataset(_settings(dataset="fashion-mnist", data_dir=str(REAL)))
    assert dataset.sample_shape == (1, 28, 28)
    assert dataset.train.samples.dtype == np.uint8
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.class_names[0] == "T-shirt/top"
    datasets = importlib.import_module("torchvision.datasets")  # seconds, which no other test needs
    oracle = datasets.FashionMNIST(str(REAL), train=False)
    image, label = oracle[123]
    assert (dataset.test.samples[123, 0] == np.asarray(image)).all()
    assert dataset.test.labels[123] == label
