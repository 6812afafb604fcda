"""What the log says of how long a local training, and all profiles, will take."""

import logging

import numpy as np
import pytest
import torch
from memory_grid import quick_settings
from slept_clock import Clock
from train_jobs import run

from feddag_flwr.algorithms.feddag import profiling
from feddag_flwr.algorithms.feddag.profiling import ProfileProgress
from feddag_flwr.models.registry import build_model
from feddag_flwr.trainers import training_time
from feddag_flwr.trainers.whole_model import WholeModel
from feddag_flwr.training.device import Samples


@pytest.fixture
def slow(monkeypatch):
    clock = Clock()
    for module in (training_time, profiling):
        monkeypatch.setattr(module, "time", clock)
    return clock


def train(clock, seconds, caplog, **changes):
    """Train 20 images in batches of 8 (3 a pass), each batch taking so many seconds."""
    images = torch.zeros(20, 1, 8, 8)

    def standardise(chosen):
        clock.now += seconds
        return chosen

    samples = Samples(images, torch.arange(20) % 2, standardise)
    settings = quick_settings(batch_size=8, **changes)
    model = build_model("small", (1, 8, 8), 2, dual=False, seed=1)
    with caplog.at_level(logging.INFO, logger="flwr"):
        run(model, samples, settings, np.random.default_rng(0), 5, WholeModel())
    return [each.getMessage() for each in caplog.records]


def test_a_long_training_is_told_after_two_batches(slow, caplog):
    # 5 epochs of 3 batches of 5 s.
    said = ["this local training takes about 0:01:15: 15 batches, 5 s each"]
    assert train(slow, 5.0, caplog) == said


def test_one_very_slow_batch_is_enough(slow, caplog):
    said = ["this local training takes about 0:17:30: 15 batches, 70 s each"]
    assert train(slow, 70.0, caplog) == said


def test_local_steps_count_as_they_are(slow, caplog):
    said = ["this local training takes about 0:02:00: 4 batches, 30 s each"]
    assert train(slow, 30.0, caplog, local_steps=4) == said


def test_a_short_training_is_not(slow, caplog):
    assert train(slow, 3.9, caplog) == []


def test_profiles_are_told_from_the_first_on(slow, caplog):
    progress = ProfileProgress(12)
    with caplog.at_level(logging.INFO, logger="flwr"):
        for number, seconds in enumerate([10, 2, 0.5, 0.4, 0.2, 9, 1, 1, 1, 1, 1, 0]):
            slow.now += seconds
            progress.done(f"ward-{number}")
    said = [each.getMessage() for each in caplog.records]
    assert said[0] == "profile  1/12: ward-0 after 10.0 s | about 0:01:50 left"
    assert said[1] == "profile  2/12: ward-1 after 12.0 s | about 0:01:00 left"
    assert said[2].startswith("profile  5/12: ward-4")  # not one a second passes unheard
    assert said[-1] == "profile 12/12: ward-11 after 27.1 s | about 0:00:00 left"
    assert len(said) == 10
