"""Federations whose clients bring their own loaders: in runs, and looked at beforehand."""

import logging
from pathlib import Path

import numpy as np
import pytest
from memory_grid import run_quickly
from sklearn.datasets import load_digits
from torch.utils.data import Dataset

from feddag_flwr.launcher import main

ROOT = Path(__file__).resolve().parents[2]

CLIENTS = 4
CODE = {"dataset": "test_data_by_code_in_runs:load", "scenario": "own", "num_clients": CLIENTS}


class Digits(Dataset):
    """Items as other libraries have them: every CLIENTS-th digit from a number on."""

    def __init__(self, start, step=CLIENTS):
        digits = load_digits()
        self.images = (digits.images[start::step] * (255 / 16)).astype(np.uint8)
        self.targets = digits.target[start::step]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"img": self.images[index], "label": int(self.targets[index])}


def load(context):
    if context.client_name == "client-3":
        raise OSError("the disk of client 3 is not mounted")
    number = context.partition
    return {"train": Digits(number), "validation": Digits(number, 40), "test": Digits(number, 20)}


@pytest.fixture(autouse=True)
def fresh():
    from feddag_flwr.data.by_code import client

    client._source.cache_clear()


@pytest.mark.integration
def test_clients_train_on_what_their_loaders_return(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, **CODE, client_groups=1, participation=1.0, num_rounds=3, batch_size=16,
            learning_rate=0.05, local_epochs=3, validation_share=0.2, keep="best-validation",
            evaluate_every=1,
        )  # fmt: skip
    assert sorted(strategy.state.clients) == ["client-0", "client-1", "client-2"]
    assert "OSError: the disk of client 3 is not mounted" in caplog.text
    judged = strategy.evaluator.evaluations["client-0"]
    assert judged.samples == len(Digits(0, 20))
    assert judged.value("accuracy") > 0.7
    assert strategy.state.clients["client-1"].train_samples == len(Digits(1))


def test_check_data_calls_the_loader_alone(capsys):
    config = "num-clients=4 warmup-epochs=1"
    command = ["check-data", CODE["dataset"], "--client-name", "ward", "--run-config", config]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "own code" in told
    assert "train[0] = test[0]" in told  # its test part is among what it trains on
    assert "Usable, with" in told


def test_check_data_tells_what_is_wrong(capsys):
    assert main(["check-data", "test_data_by_code_in_runs:nothing"]) == 1
    told = capsys.readouterr().out
    assert "unusable: client 'client-00': dataset = 'test_data_by_code_in_runs:nothing': " in told
    assert "AttributeError" in told


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            'dataset="nowhere_at_all:load" scenario="own"',
            "there is no module 'nowhere_at_all', neither installed, nor in PYTHONPATH, nor in",
        ),
        ('encoder-weights="nowhere.pth"', "nowhere.pth': no such file; download it first"),
    ],
)
@pytest.mark.parametrize("how", [[], ["--in-process"]])
def test_what_is_not_there_is_told_before_any_process_starts(config, words, how, capsys):
    assert main(["run", str(ROOT), "--run-config", config, *how]) == 2
    assert words in capsys.readouterr().err
