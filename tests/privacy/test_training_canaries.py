"""Does private training leak more than it may? One canary, in or out, of many small trainings.

The loss is linear, so that a sample's gradient is the sample: that of the canary is as long as may
be, always the same way, and all others have none. What is trained then tells most of the canary by
its first weight. From the errors of the best cut follows a lower bound of epsilon that holds with
confidence (Jagielski et al. 2020); see test_canaries.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from privacy_noise import seeded_noise
from private_jobs import descend_linearly
from scipy.stats import beta

from feddag_flwr.privacy.training import PrivacyCosts, Spent, TrainingPlan
from feddag_flwr.trainers import private_descent
from feddag_flwr.training.device import Samples

TRIALS = 2000
DOUBT = 1e-3
PLAN = TrainingPlan(1e-5, 1.0, 0.9, steps=2, passes=1, noise=2.0, number_noise=1e6)


def weights(plan, canary, noise):
    """First weights after so many trainings, on three samples and perhaps the canary."""
    stored = torch.zeros(3 + canary, 2)
    stored[3:, 0] = -20.0
    samples = Samples(stored, torch.zeros(len(stored), dtype=torch.long))
    return np.array([descend_linearly(samples, plan, noise, told=4)[0] for _ in range(TRIALS)])


def least_epsilon(plan, seed):
    noise = seeded_noise(seed)
    without, with_it = weights(plan, 0, noise), weights(plan, 1, noise)
    half = TRIALS // 2

    def bound(cut, first, second):
        hits, alarms = (second > cut).sum(), (first > cut).sum()
        power = beta.ppf(DOUBT, hits, len(second) - hits + 1)
        falsely = beta.isf(DOUBT, alarms + 1, len(first) - alarms)
        return np.log(max(power - plan.delta, 1e-12) / falsely)

    cuts = np.quantile(without[:half], np.linspace(0.5, 0.995, 50))
    chosen = max(cuts, key=lambda cut: bound(cut, without[:half], with_it[:half]))
    return bound(chosen, without[half:], with_it[half:])


@pytest.fixture(scope="module")
def promised():
    return PrivacyCosts(None, PLAN).epsilon(Spent(0, 0, PLAN.steps))


def test_canaries_find_no_more_than_the_promise(promised):
    assert 0.1 * promised < least_epsilon(PLAN, seed=1) <= promised


def test_canaries_find_too_little_noise(promised):
    assert least_epsilon(replace(PLAN, noise=0.2), seed=2) > promised


def test_canaries_find_a_gradient_that_is_too_long(promised, monkeypatch):
    monkeypatch.setattr(private_descent, "clipped_sum", unclipped)
    assert least_epsilon(PLAN, seed=3) > promised


def unclipped(gradients, clip):
    return {name: each.double().sum(dim=0) for name, each in gradients.items()}
