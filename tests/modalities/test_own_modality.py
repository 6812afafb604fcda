"""A modality that is added from one file: tables with holes, which the federation's means fill."""

import json

import numpy as np
import pytest
import torch
from memory_grid import quick_settings
from torch import nn

from feddag_flwr.data.files import read_npz
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities import Modality, ModalityError, load_modality
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.simulation import run_in_process
from feddag_flwr.training.device import Samples

OWN = f"{__name__}:Tabular"
COLUMNS = 5


class Mlp(nn.Module):
    """One hidden layer."""

    feature_size = 16

    def __init__(self, columns):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(columns, 16), nn.ReLU())

    def forward(self, rows):
        return self.layers(rows)


class Tabular(Modality):
    """Columns of numbers; NaN where there is none."""

    array = "features"

    def accept(self, samples, where):
        if samples.ndim != 2 or samples.dtype.kind != "f" or np.isinf(samples).any():
            raise DataError(f"{where} is {samples.dtype} {samples.shape}; expected floats (n, d)")
        return samples.astype(np.float32)

    def check(self, spec):
        if len(spec.shape) != 1:
            raise ModalityError(f"sample-shape {spec.shape}: must be one number of columns")

    def moments(self, samples):
        there, values = ~np.isnan(samples), np.nan_to_num(samples.astype(np.float64))
        columns = (there.mean(axis=0), values.mean(axis=0), (values**2).mean(axis=0))
        return tuple(tuple(map(float, row)) for row in np.stack(columns, axis=1))

    def check_moments(self, spec, moments):
        if len(moments) != spec.shape[0] or any(len(row) != 3 for row in moments):
            raise ModalityError("moments must be three numbers a column")
        if not all(0 <= there <= 1 and square >= 0 for there, _, square in moments):
            raise ModalityError("moments are of no table")

    def scale(self, spec, moments, weights):
        there, means, squares = np.einsum("i,icm->mc", weights, np.array(moments))
        means, squares = means / there, squares / there
        return tuple(map(tuple, np.stack([means, np.sqrt(squares - means**2)], axis=1).tolist()))

    def plain_scale(self, spec):
        return ((0.0, 1.0),) * spec.shape[0]

    def check_scale(self, spec, scale):
        if len(scale) != spec.shape[0] or any(row[1] <= 0 for row in scale):
            raise ModalityError("scale must be a mean and a positive deviation a column")

    def to_device(self, device, data, scale):
        means, deviations = np.array(scale).T
        rows = (self.subspace_matrix(data.samples, scale) - means) / deviations
        labels = torch.from_numpy(data.labels).to(device)
        return Samples(torch.from_numpy(rows.astype(np.float32)).to(device), labels)

    def subspace_matrix(self, samples, scale):
        return np.where(np.isnan(samples), np.array(scale)[:, 0], samples).astype(np.float64)

    def subspace_features(self, spec):
        return spec.shape[0]

    def default_encoder(self, spec):
        return Mlp(spec.shape[0])


def write_clients(folder, clients=6, rows=60):
    """Two kinds of clients, in which the classes lie on other axes; a tenth of the cells empty."""
    tables = []
    for number in range(clients):
        rng = np.random.default_rng(number)
        labels = np.arange(rows) % 2
        features = rng.normal(3.0, 1.0, (rows, COLUMNS))
        features[:, number % 2] += np.where(labels, 3.0, -3.0)
        features[rng.random(features.shape) < 0.1] = np.nan
        np.savez(
            folder / f"clinic-{number}.npz",
            features=features, labels=labels, test_features=features[:20], test_labels=labels[:20],
            class_names=np.array(["ill", "well"]),
        )  # fmt: skip
        tables.append(features)
    return np.concatenate(tables)


def own_settings(folder, **changes):
    return quick_settings(
        dataset="npz", scenario="own", modality=OWN, data_dir=str(folder), num_clients=6,
        run_dir=str(folder / "runs"), client_groups=1, num_rounds=2, local_epochs=5,
        learning_rate=0.1, batch_size=16, **changes,
    )  # fmt: skip


def test_feddag_trains_on_tables(tmp_path):
    table = write_clients(tmp_path)
    folder = run_in_process(own_settings(tmp_path))
    checkpoint = sorted(folder.glob("checkpoints/round-*"))[-1]
    state = json.loads((checkpoint / "state.json").read_text())
    assert state["sample-shape"] == [COLUMNS]
    # Six clients of one size: the scale is that of all numbers of a column that are there.
    expected = np.stack([np.nanmean(table, axis=0), np.nanstd(table, axis=0)], axis=1)
    np.testing.assert_allclose(state["sample-scale"], expected, rtol=1e-5)
    summary = json.loads((folder / "summary.json").read_text())
    assert len(state["assignments"]) == 6
    assert summary["overall"]["clients"] == 6
    assert summary["overall"]["balanced-accuracy"] > 0.8  # chance: 0.5


def test_pacfl_compares_tables(tmp_path):
    write_clients(tmp_path)
    folder = run_in_process(own_settings(tmp_path, algorithm="pacfl", num_clusters=2))
    assert json.loads((folder / "summary.json").read_text())["num-clusters"] == 2


def test_holes_are_filled_before_anything_is_computed():
    data = LabelledSamples(np.array([[1.0, np.nan], [np.nan, 8.0]], np.float32), np.array([0, 1]))
    modality, scale = load_modality(OWN), ((3.0, 2.0), (4.0, 1.0))
    assert modality.subspace_matrix(data.samples, scale).tolist() == [[1, 4], [3, 8]]
    found = modality.to_device(torch.device("cpu"), data, scale).inputs(slice(None))
    assert found.tolist() == [[-1, 0], [0, 4]]


def test_an_archive_of_another_kind_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", features=np.zeros((2, 3, 4)), labels=np.arange(2))
    with pytest.raises(DataError, match=r"'features' is float64 \(2, 3, 4\); expected floats"):
        read_npz(tmp_path / "a.npz", load_modality(OWN))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "digits"}, "modality .* takes 'npz' or package.module:load"),
        ({"dataset": "npz", "data-dir": "x", "rotations": 2}, "rotations = 2: only images"),
        ({"dataset": "npz", "data-dir": "x", "corruptions": "fog"}, "corruptions = 'fog': only"),
    ],
)
def test_what_is_for_images_is_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        Settings.from_run_config({"modality": OWN, **changes})


def test_a_modality_that_is_none_is_refused():
    with pytest.raises(SettingsError, match="setting modality = 'sound': must be image, tabular"):
        Settings.from_run_config({"modality": "sound"})
