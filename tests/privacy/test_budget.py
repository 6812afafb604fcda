import math

import pytest
from dp_accounting import GaussianDpEvent, pld
from scipy.optimize import brentq
from scipy.stats import norm

from feddag_flwr.privacy import budget
from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.settings import PrivacySettings
from feddag_flwr.sections import SettingsError


def of(epsilon, delta=1e-5):
    return ProfileBudget.of(epsilon, delta)


def by_dp_accounting(spent, profiles=1):
    """Epsilon by the accountant of privacy loss distributions, one event a part and profile."""
    accountant = pld.PLDAccountant()
    for _ in range(profiles):
        accountant.compose(GaussianDpEvent(spent.count_noise))
        accountant.compose(GaussianDpEvent(spent.moment_noise))
    return accountant.get_epsilon(spent.delta)


def by_hand(spent, profiles=1):
    """Epsilon by the curve of Balle and Wang, solved here."""
    mu = math.sqrt(profiles * (spent.count_noise**-2 + spent.moment_noise**-2))

    def excess(epsilon):
        below = norm.cdf(mu / 2 - epsilon / mu)
        return below - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - spent.delta

    return brentq(excess, 0, 200)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-6), (1, 1e-5), (3, 1e-5), (8, 1e-3)])
def test_the_noise_is_the_least_that_keeps_the_promise(epsilon, delta):
    spent = of(float(epsilon), delta)
    assert spent.epsilon() <= epsilon
    assert spent.epsilon() == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize("profiles", [1, 2, 5])
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_epsilon_is_dp_accountings_own(epsilon, profiles):
    spent = of(epsilon)
    assert spent.epsilon(profiles) == pytest.approx(by_hand(spent, profiles), rel=1e-6)
    # The accountant rounds losses up, to a grid of 1e-4.
    assert spent.epsilon(profiles) == pytest.approx(by_dp_accounting(spent, profiles), rel=1e-3)


def test_no_profile_costs_nothing():
    assert of(3.0).epsilon(0) == 0


def test_a_missing_accountant_is_told_by_a_sentence(monkeypatch):
    monkeypatch.setattr(budget, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"profile-epsilon = 3: .*feddag-flwr\[privacy\]"):
        of(3.0)
    budget.check_installed(PrivacySettings())  # nobody needs it where it is off
