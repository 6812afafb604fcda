"""Every example of docs/extending.md is written to a file, run with its settings, and looked at."""

import csv
import importlib
import json
import re
import sys

import numpy as np
import pytest
import torch
from memory_grid import QUICK
from pages import ROOT, blocks
from sklearn.metrics import f1_score

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.flower.run_config import parse_overrides
from feddag_flwr.inference.served import load_served
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.simulation import run_in_process

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs/extending.md"
MOST_LINES = 30
ONE_ROUND = {
    "algorithm": "fedavg",
    "num-rounds": 1,
    "participation": 1.0,
    "batch-size": 1000,
    "momentum": 0.0,
    "weight-decay": 0.0,
}


def examples():
    """From a file's name to its text and the settings in the command under it."""
    found, above = {}, None
    for block in blocks(PAGE):
        if block.language == "python":
            above = block.text
        elif above:
            name = re.match(r"# (\w+)\.py\n", above)[1]
            config = re.search(r"--run-config '(.*)'", block.text)[1]
            found[name] = above, parse_overrides([config])
            above = None
    return found


EXAMPLES = examples()


class Example:
    """A module made of an example, and runs with the settings that the page gives."""

    def __init__(self, folder):
        self.folder = folder

    def take(self, name):
        text, self.config = EXAMPLES[name]
        (self.folder / f"{name}.py").write_text(text, "utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name)

    def run(self, name="own", *, plain=False, **changes):
        config = {} if plain else self.config
        given = {key.replace("_", "-"): value for key, value in changes.items()}
        own = {"run-dir": str(self.folder / "runs"), "run-name": name}
        self.settings = Settings.from_run_config({**QUICK, **ONE_ROUND, **config, **given, **own})
        return run_in_process(self.settings)

    def data(self, partition):
        node = {"partition-id": partition, "num-partitions": self.settings.run.num_clients}
        return load_client_data(self.settings, node)


@pytest.fixture
def example(tmp_path, monkeypatch):
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Example(tmp_path)
    for name in set(sys.modules) - known:
        if name in EXAMPLES:
            del sys.modules[name]


def model_of(folder, cluster=0):
    return newest_checkpoint(folder).state.models[cluster]


def start():
    """The digits' common start, which every algorithm shares."""
    return get_parts(build_model("auto", (1, 8, 8), 10, dual=False, seed=1))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def guesses_of(folder, data):
    images = torch.from_numpy(data.test.samples).float() / 255
    return load_served(folder, cluster=0).classifier(images).argmax(dim=1).numpy()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name):
    text, _ = EXAMPLES[name]
    code = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= MOST_LINES


def test_every_seam_has_an_example():
    seams = {key for _, config in EXAMPLES.values() for key, value in config.items()
             if isinstance(value, str) and ":" in value}  # fmt: skip
    assert seams == {
        "algorithm", "aggregator", "postprocessors", "modality", "objective", "optimiser",
        "trainer", "metrics", "observers",
    }  # fmt: skip


def test_the_algorithm_joins_clients_of_one_most_common_class(example):
    example.take("favourite")
    found = newest_checkpoint(example.run()).state
    favourites = {}
    for number in range(6):
        client = example.data(number)
        names = np.array(client.class_names)[client.train.labels].tolist()
        favourites[client.name] = max(sorted(set(names)), key=names.count)
    assert len(set(favourites.values())) == found.num_clusters > 1
    pairs = {(favourites[name], cluster) for name, cluster in found.assignments.items()}
    assert len(pairs) == found.num_clusters
    assert len(found.assignments) == 6


def test_the_algorithm_lowers_the_learning_rate_as_its_own_setting_says(example, monkeypatch):
    module = example.take("rated")
    rates, training_of = [], module.Rated.local_training

    def noted(self, name):
        rates.append(training_of(self, name).learning_rate)
        return training_of(self, name)

    monkeypatch.setattr(module.Rated, "local_training", noted)
    example.run(num_rounds=3, num_clients=2, client_groups=1, learning_rate=0.08)
    assert rates == [0.08, 0.08, 0.04, 0.04, 0.02, 0.02]


def test_settings_of_an_own_algorithm_are_checked_as_all_are(example):
    example.take("rated")
    config = {"algorithm": "rated:Rated", "own-rated-decay": 0.5}
    assert Settings.from_run_config(config).to_run_config().items() >= config.items()
    wrong = "setting own-rated-decay = 2.0: input should be less than"
    with pytest.raises(SettingsError, match=re.escape(wrong)):
        Settings.from_run_config({**config, "own-rated-decay": 2.0})
    with pytest.raises(SettingsError, match=r"unknown setting 'rated-decay' = 0\.5"):
        Settings.from_run_config({**config, "rated-decay": 0.5})


def test_other_algorithms_pass_over_the_settings_of_an_own_one():
    # They stand in the app's [tool.flwr.app.config], whichever algorithm runs.
    settings = Settings.from_run_config({"algorithm": "fedavg", "own-rated-decay": 0.5})
    assert "own-rated-decay" not in settings.to_run_config()


def test_the_aggregator_takes_the_middle_of_each_coordinate(example, monkeypatch):
    module = example.take("median")
    seen = []
    aggregate = module.Median.aggregate

    def noted(self, updates, weights, reference):
        seen.append([update.floats.tolist() for update in updates])
        return aggregate(self, updates, weights, reference)

    monkeypatch.setattr(module.Median, "aggregate", noted)
    folder = example.run(num_clients=5)
    model = model_of(folder)
    assert len(seen) == 2
    for values, part in zip(seen, ("primary", "classifier"), strict=True):
        middle = [sorted(column)[2] for column in zip(*values, strict=True)]
        assert model[part].floats.tolist() == middle


def test_the_postprocessor_bounds_each_part_of_an_update(example):
    module = example.take("clipping")
    config = {"learning_rate": 1.0, "num_clients": 2, "client_groups": 1}
    clipped, plain = example.run(**config), example.run("plain", plain=True, **config)
    for part, before in start().items():
        moved, free = (model_of(folder)[part].floats - before.floats for folder in (clipped, plain))
        noise = module.NOISE * np.sqrt(moved.size)
        assert np.linalg.norm(moved) <= module.LONGEST + 1.2 * noise
        assert np.linalg.norm(free) > 2 * module.LONGEST
        assert np.count_nonzero(moved) > 0.99 * moved.size > np.count_nonzero(free)  # noise


def test_the_modality_trains_on_tables(example):
    example.take("tables")
    example.config["data-dir"] = str(example.folder / "clinics")
    (example.folder / "clinics").mkdir()
    tables = []
    for number in range(4):
        rng = np.random.default_rng(number)
        labels = np.arange(60) % 2
        features = rng.normal(3.0, 1.0, (60, 5))
        features[:, 2] += np.where(labels, 4.0, -4.0)
        np.savez(
            example.folder / f"clinics/clinic-{number}.npz",
            features=features, labels=labels, test_features=features[:20],
            test_labels=labels[:20], class_names=["ill", "well"],
        )  # fmt: skip
        tables.append(features)
    folder = example.run(
        algorithm="feddag", client_groups=1, batch_size=8, learning_rate=0.1, local_epochs=3
    )
    state = newest_checkpoint(folder).state
    table = np.concatenate(tables)
    expected = np.stack([table.mean(axis=0), table.std(axis=0)], axis=1)
    np.testing.assert_allclose(state.sample_scale, expected, rtol=1e-4)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overall"]["balanced-accuracy"] > 0.9  # chance: 0.5


def test_the_objective_never_teaches_class_0(example):
    example.take("unlabelled")
    easy = {
        "num_clients": 2, "label_skew": 100.0, "client_groups": 1, "batch_size": 16,
        "learning_rate": 0.1, "local_epochs": 3,
    }  # fmt: skip
    passed_over, plain = example.run(**easy), example.run("plain", plain=True, **easy)
    data = example.data(0)
    assert 0 in data.test.labels
    assert 0 not in guesses_of(passed_over, data)
    assert 0 in guesses_of(plain, data)


def test_the_optimiser_moves_each_weight_by_the_rate_at_first(example):
    example.take("adam")
    folder = example.run(num_clients=2, client_groups=1)
    assert example.settings.training.learning_rate == 0.001
    moved = model_of(folder)["classifier"].floats - start()["classifier"].floats
    assert np.abs(moved).max() <= 0.00101
    assert np.abs(moved[moved != 0]).mean() > 0.0005  # SGD would move by the gradient's size


def test_the_trainer_takes_the_largest_first_and_changes_nothing(example):
    trainer = example.take("largest").LARGEST_FIRST
    own, plain = example.run(), example.run("plain", plain=True)
    (sizes,) = trainer.trained
    assert sizes == sorted((len(example.data(number).train) for number in range(6)), reverse=True)
    assert (own / "metrics.jsonl").read_bytes() == (plain / "metrics.jsonl").read_bytes()


def test_the_metric_is_scikit_learns(example):
    example.take("f1")
    folder = example.run(batch_size=16, learning_rate=0.1, local_epochs=3)
    by_client = lines(folder)[-1]["all"]["by-client"]
    for number in range(6):
        data = example.data(number)
        labels, guesses = data.test.labels, guesses_of(folder, data)
        expected = f1_score(labels, guesses, labels=np.unique(labels), average="macro")
        assert by_client[data.name]["macro-f1"] == pytest.approx(expected)


def test_the_observer_writes_what_the_log_says(example):
    example.take("table")
    folder = example.run(num_rounds=2)
    rows = list(csv.reader((folder / "table.csv").open()))
    judged = [
        (line["round"], line.get("all") or line.get("participants")) for line in lines(folder)
    ]
    expected = [
        [str(number), str(scope["overall"]["balanced-accuracy"])]
        for number, scope in judged
        if scope
    ]
    assert rows == expected
    assert [row[0] for row in rows] == ["1", "2"]
