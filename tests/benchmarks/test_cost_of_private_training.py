"""What the benchmark of private training runs, and how it tabulates that."""

import private_training
import pytest
from private_training import CHOOSING_SEED, CHOSEN, Trial
from records import Records
from rich.console import Console

from feddag_flwr.privacy.training import PrivacyCosts


@pytest.mark.parametrize("dataset", CHOSEN)
def test_what_was_chosen_was_tried_on_a_seed_that_is_not_reported(dataset):
    tried = private_training.choices(dataset)
    assert CHOSEN[dataset] in {(t.clip, t.rate, t.learning_rate, t.steps) for t in tried}
    assert {trial.seed for trial in tried} == {CHOOSING_SEED}
    assert CHOOSING_SEED not in {t.seed for t in private_training.trials(dataset, range(1, 4))}


@pytest.mark.parametrize("dataset", CHOSEN)
def test_feddag_is_given_the_same_epsilon_in_all(dataset, tmp_path):
    for trial in private_training.trials(dataset, [1]):
        if trial.epsilon != 3.0:
            continue
        costs = PrivacyCosts.of(private_training.settings_of(trial, "data", str(tmp_path)))
        assert costs.epsilon(costs.planned) == pytest.approx(3.0, rel=0.05)
        assert (costs.profile is not None) == (trial.algorithm == "feddag")


def test_without_noise_training_is_the_usual(tmp_path):
    for trial in private_training.trials("digits", [1]):
        settings = private_training.settings_of(trial, "", str(tmp_path))
        assert settings.privacy.training_on == bool(trial.epsilon)
        assert settings.training.local_steps == (1 if trial.epsilon else 0)


def test_records_are_tabulated(tmp_path):
    records = Records.in_folder(tmp_path)
    outcome = {"rand-index": 0.5, "cpu-seconds": 3.0, "delta": 1e-5}
    private = {"epsilon-told": 2.9, "noise-multiplier": 1.5}
    for seed, accuracy in ((1, 0.5), (2, 0.7)):
        trial = Trial("digits", "fedavg", 3.0, 1.0, 0.5, 1.0, 1, seed)
        records.of_trial(trial, outcome | private | {"balanced-accuracy": accuracy})
    trial = Trial("digits", "fedavg", 0.0, 0.0, 0.0, 0.0, 0, 1)
    records.of_trial(trial, outcome | {"balanced-accuracy": 0.9})
    console = Console(width=200, record=True, quiet=False, file=(tmp_path / "table").open("w"))
    console.print(private_training.report(records))
    lines = console.export_text().splitlines()
    assert any("0.600" in line and "0.500" in line and "2.9" in line for line in lines)
    assert any("none" in line and "0.900" in line for line in lines)
