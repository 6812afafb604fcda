"""Recipes and metrics in whole runs: what travels, what is refused, and what is reported."""

from __future__ import annotations

import json

import numpy as np
import pytest
from memory_grid import quick_settings

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.federation.errors import FederationError
from feddag_flwr.modalities import Modality
from feddag_flwr.registry import RegistryError
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.simulation import run_in_process

pytestmark = pytest.mark.integration

RECIPE = {
    "optimiser": "adamw",
    "learning_rate": 0.002,
    "rate_schedule": "cosine",
    "rate_warmup_rounds": 1,
    "gradient_clipping": 1.0,
    "augmentation": "standard",
    "class_weights": "balanced",
    "label_smoothing": 0.1,
    "local_steps": 3,
}


def run(folder, name, **changes):
    return run_in_process(quick_settings(run_dir=str(folder), run_name=name, **changes))


def numbers(path):
    """All models of the last checkpoint in one vector."""
    models = newest_checkpoint(path).state.models
    return np.concatenate([model[part].floats for model in models for part in sorted(model)])


@pytest.mark.parametrize("algorithm", ["feddag", "fedavg"])
def test_a_recipe_trains_otherwise_and_the_same_twice(tmp_path, algorithm):
    plain = numbers(run(tmp_path, "plain", algorithm=algorithm, num_rounds=2))
    first, again = (
        numbers(run(tmp_path, name, algorithm=algorithm, num_rounds=2, **RECIPE))
        for name in ("first", "again")
    )
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all()
    assert not np.array_equal(first, plain)


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, value in RECIPE.items() if key != "learning_rate"]
)
def test_each_setting_of_a_recipe_does_something(tmp_path, key, value):
    plain = numbers(run(tmp_path, "plain", algorithm="fedavg", num_rounds=2))
    changed = numbers(run(tmp_path, "changed", algorithm="fedavg", num_rounds=2, **{key: value}))
    assert not np.array_equal(plain, changed)


def test_frozen_layers_are_the_same_after_a_run(tmp_path):
    path = run(tmp_path, "frozen", algorithm="fedavg", num_rounds=2, frozen_layers="0")
    trained = newest_checkpoint(path).state.models[0]["primary"].floats
    settings = quick_settings(algorithm="fedavg", num_rounds=0, run_dir=str(tmp_path))
    start = newest_checkpoint(run_in_process(settings)).state.models[0]["primary"].floats
    same = trained == start
    assert same[:80].all()  # the first layer of `small` has 8 kernels of 3 x 3 and 8 biases
    assert not same[80:].all()


def test_a_layer_that_is_not_there_is_refused_before_training(tmp_path):
    with pytest.raises(FederationError, match=r"frozen-layers = 'trunk': the encoder has no trunk"):
        run(tmp_path, "trunk", algorithm="fedavg", num_rounds=1, frozen_layers="trunk")


def test_augmentation_of_what_cannot_be_changed_is_refused_before_a_run(tmp_path, monkeypatch):
    from feddag_flwr.modalities.image import Image

    monkeypatch.setattr(Image, "augment", Modality.augment)
    settings = quick_settings(run_dir=str(tmp_path), augmentation="standard")
    with pytest.raises(RegistryError, match="setting augmentation = 'standard': must be 'none'"):
        build_strategy(settings, RunFolder(settings))


def test_the_summary_has_pooled_figures_and_the_worst_client(tmp_path):
    path = run(
        tmp_path, "metrics", num_rounds=1, metrics="auroc, macro-f1, calibration-error, accuracy"
    )
    summary = json.loads((path / "summary.json").read_text())
    line = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    areas = {name: figures["auroc"] for name, figures in line["all"]["by-client"].items()}
    assert summary["spread"]["auroc"]["worst"] == min(areas.values())
    assert summary["spread"]["auroc"]["worst-client"] == min(areas, key=areas.get)
    confusion = np.array(summary["pooled"]["details"]["macro-f1"]["confusion"])
    assert confusion.sum() == summary["pooled"]["samples"]
    assert summary["pooled"]["accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())
