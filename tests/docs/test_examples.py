"""The examples' settings are settings, and say what their pages say."""

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT

from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.modalities import load_modality
from feddag_flwr.settings import Settings

FOLDERS = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
REAL = Path(os.environ.get("FEDDAG_TEST_DATA", ROOT / "../shared/data"))
ARFF = "wisdm/WISDM_ar_v1.1_transformed.arff"


def settings_of(name, data_dir):
    config = tomllib.loads((ROOT / "examples" / name / "run.toml").read_text("utf-8"))
    return Settings.from_run_config({**config, "data-dir": str(data_dir)})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_example_has_settings_and_a_page_that_names_them(folder):
    settings_of(folder.name, "data")
    page = (folder / "README.md").read_text("utf-8")
    assert f"examples/{folder.name}/run.toml" in page


@pytest.mark.parametrize(
    ("name", "path", "clients", "width", "classes", "rows"),
    [
        ("heart", "heart", ["cleveland", "hungarian", "switzerland", "va"], 13, 2, 920),
        ("wisdm", ARFF, [str(person + 1) for person in range(36)], 43, 6, 5418),
    ],
)
def test_the_real_data_is_read_as_the_page_says(name, path, clients, width, classes, rows):
    if not (REAL / path).exists():
        pytest.skip(f"{name} is missing: set FEDDAG_TEST_DATA to the folder that has it")
    settings = settings_of(name, REAL / path)
    data = [load_client_data(settings, {"partition-id": each}) for each in range(len(clients))]
    assert [each.name for each in data] == clients
    assert {len(each.train.samples.dtype.names) for each in data} == {width}
    assert len({label for each in data for label in each.class_names}) == classes
    assert sum(len(each.train) + len(each.test) for each in data) == rows
    modality = load_modality("tabular")
    spec = modality.agreed([modality.spec(each.train.samples) for each in data], np.ones(len(data)))
    for each in data:
        modality.check_fit(modality.spec(each.train.samples), spec)
        assert modality.in_spec(each.test.samples, spec).shape == (len(each.test), *spec.shape)
