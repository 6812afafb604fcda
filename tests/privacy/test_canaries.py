"""Does a profile leak more than it may? One canary, in or out, and the best test there is for it.

The neighbours are the worst ones: a class without a sample, and the canary alone in it. What an
observer sees is normal under both, so that no test beats the likelihood ratio (Neyman, Pearson).
From its errors follows a lower bound of epsilon that holds with confidence (Jagielski et al. 2020).
"""

from dataclasses import replace

import numpy as np
import pytest
from privacy_noise import seeded_noise
from scipy.stats import beta

from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.mechanism import ClassMoments

TRIALS = 10_000
DOUBT = 1e-3  # chance at which a bound of an error may be wrong


def scores(budget, canary, noise):
    """Likelihood ratios of what is seen, but for a constant."""
    moments = ClassMoments.none(1, 3)
    if canary:
        moments.add(np.array([[5.0, 0.0, 0.0]]), np.array([0]))
    found = np.empty(TRIALS)
    for trial in range(TRIALS):
        seen = moments.released(budget, noise)
        found[trial] = seen.counts[0] / budget.count_noise**2
        found[trial] += seen.seconds[0, 0, 0] / budget.moment_noise**2
    return found


def least_epsilon(budget, delta, seed):
    """Lower bound of epsilon; half of the trials choose where to test, the others test."""
    noise = seeded_noise(seed)
    without, with_it = scores(budget, False, noise), scores(budget, True, noise)
    half = TRIALS // 2
    cuts = np.quantile(without[:half], np.linspace(0.5, 0.999, 50))

    def bound(cut, first, second):
        hits, alarms = (second > cut).sum(), (first > cut).sum()
        power = beta.ppf(DOUBT, hits, len(second) - hits + 1)
        falsely = beta.isf(DOUBT, alarms + 1, len(first) - alarms)
        return np.log(max(power - delta, 1e-12) / falsely)

    chosen = max(cuts, key=lambda cut: bound(cut, without[:half], with_it[:half]))
    return bound(chosen, without[half:], with_it[half:])


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_canaries_find_no_more_than_the_promise(epsilon):
    budget = ProfileBudget.of(epsilon, 1e-5)
    found = least_epsilon(budget, budget.delta, seed=1)
    assert 0.1 * epsilon < found <= epsilon


@pytest.mark.parametrize("part", ["count_noise", "moment_noise"])
def test_canaries_find_a_part_with_too_little_noise(part):
    budget = ProfileBudget.of(1.0, 1e-5)
    faulty = replace(budget, **{part: getattr(budget, part) / 4})
    assert least_epsilon(faulty, budget.delta, seed=2) > 1.0
