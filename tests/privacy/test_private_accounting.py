"""What private training costs: by the plan, and by what was asked for."""

import math

import pytest
from dp_accounting import (
    GaussianDpEvent,
    PoissonSampledDpEvent,
    get_epsilon_gaussian,
    pld,
    rdp,
)
from memory_grid import quick_settings
from privacy_noise import seeded_noise
from private_jobs import BOTH, TRAINED

from feddag_flwr.privacy import budget
from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.settings import PrivacySettings
from feddag_flwr.privacy.training import (
    LEAST_NOISE,
    PrivacyCosts,
    Spent,
    TrainingPlan,
    passes_of_a_round,
    steps_of,
)
from feddag_flwr.sections import SettingsError

PLAN = TrainingPlan(1e-5, 1.0, 0.1, steps=10, passes=6, noise=1.5, number_noise=4.0)
PROFILE = ProfileBudget.of(2.0, 1e-6)


def by_dp_accounting(plan, spent, accountant):
    """One event after the other, in an order of its own."""
    step = PoissonSampledDpEvent(plan.rate, GaussianDpEvent(plan.noise))
    for _ in range(spent.steps):
        accountant.compose(step)
    for _ in range(spent.profiles):
        accountant.compose(GaussianDpEvent(PROFILE.count_noise))
        accountant.compose(GaussianDpEvent(PROFILE.moment_noise))
    for _ in range(spent.numbers):
        accountant.compose(GaussianDpEvent(plan.number_noise))
    return accountant.get_epsilon(plan.delta)


@pytest.mark.parametrize("spent", [Spent(0, 1, 8), Spent(1, 1, 12), Spent(2, 3, 4)])
def test_epsilon_is_dp_accountings_own(spent):
    found = PrivacyCosts(PROFILE, PLAN).epsilon(spent)
    assert found == pytest.approx(by_dp_accounting(PLAN, spent, pld.PLDAccountant()), rel=2e-3)
    # Renyi's accountant knows an upper bound, which is not much above.
    bound = by_dp_accounting(PLAN, spent, rdp.RdpAccountant())
    assert 0.8 * bound < found <= bound


def test_where_all_samples_are_in_each_step_it_is_one_gaussian_mechanism():
    plan = TrainingPlan(1e-5, 1.0, 1.0, steps=5, passes=4, noise=9.0, number_noise=6.0)
    found = PrivacyCosts(None, plan).epsilon(Spent(0, 1, 20))
    mu = math.sqrt(20 / 9.0**2 + 1 / 6.0**2)
    assert found == pytest.approx(get_epsilon_gaussian(1 / mu, 1e-5), rel=1e-3)


def test_nothing_asked_costs_nothing():
    assert PrivacyCosts(PROFILE, PLAN).epsilon(Spent()) == 0
    assert PrivacyCosts(PROFILE, None).epsilon(Spent()) == 0


def test_profiles_alone_are_accounted_for_exactly():
    assert PrivacyCosts(PROFILE, None).epsilon(Spent(2)) == PROFILE.epsilon(2)
    assert PrivacyCosts(PROFILE, None).delta == 1e-6
    assert PrivacyCosts(PROFILE, PLAN).delta == 1e-5


@pytest.mark.parametrize(
    ("epsilon", "rate", "epochs", "rounds"), [(1.0, 0.25, 1, 3), (3.0, 0.1, 2, 5), (5.0, 1.0, 1, 2)]
)
def test_the_noise_is_the_least_with_which_every_round_keeps_the_promise(
    epsilon, rate, epochs, rounds
):
    settings = quick_settings(
        **TRAINED
        | {
            "training_epsilon": epsilon, "training_sampling_rate": rate, "local_epochs": epochs,
            "num_rounds": rounds,
        }
    )  # fmt: skip
    costs = PrivacyCosts.of(settings)
    assert costs.planned == Spent(0, 1, epochs * round(1 / rate) * rounds)
    assert 0.99 * epsilon < costs.epsilon(costs.planned) <= epsilon


def test_no_less_noise_is_drawn_than_some():
    settings = quick_settings(**TRAINED | {"training_epsilon": 90.0, "training_sampling_rate": 0.01,
                                           "local_steps": 1, "num_rounds": 1})  # fmt: skip
    assert TrainingPlan.of(settings).noise == LEAST_NOISE


def test_steps_are_the_settings():
    def steps(**changes):
        return steps_of(quick_settings(**TRAINED | changes))

    assert steps(local_epochs=3, training_sampling_rate=0.25) == 12
    assert steps(local_epochs=3, training_sampling_rate=0.3) == 9
    assert steps(local_epochs=1, training_sampling_rate=1.0) == 1
    assert steps(local_epochs=3, local_steps=5) == 5


def test_feddag_trains_two_encoders_a_round_but_where_there_is_one_or_rounds_take_turns():
    def passes(**changes):
        return passes_of_a_round(quick_settings(**BOTH | changes))

    assert passes() == 2
    assert passes(secondary="none") == 1
    assert passes(schedule="3:1") == 1
    assert passes_of_a_round(quick_settings(**TRAINED)) == 1


def test_what_a_client_that_is_always_asked_tells():
    both = PrivacyCosts.of(quick_settings(**BOTH))
    assert both.planned == Spent(1, 1, 2 * 2 * 2)
    assert 3.0 < both.epsilon(both.planned) < 6.0  # a profile of 3 and a training of 3


def test_numbers_of_samples_have_the_noise_of_the_plan():
    noise = seeded_noise(3)
    told = [PLAN.number_told(50, noise) for _ in range(4000)]
    mean = sum(told) / len(told)
    assert mean == pytest.approx(50, abs=5 * 4 / math.sqrt(4000))
    assert math.sqrt(sum((each - mean) ** 2 for each in told) / len(told)) == pytest.approx(
        4, rel=0.05
    )
    assert min(PLAN.number_told(1, noise) for _ in range(100)) == 1


@pytest.mark.parametrize(
    ("one", "other", "within"),
    [((1, 1, 4), (1, 1, 5), True), ((1, 2, 4), (1, 1, 5), False), ((0, 0, 0), (0, 0, 0), True)],
)
def test_what_is_spent_adds_up(one, other, within):
    one, other = Spent(*one), Spent(*other)
    assert one.within(other) is within
    assert tuple(one.plus(other)) == tuple(a + b for a, b in zip(one, other, strict=True))


def test_a_missing_accountant_is_told_by_a_sentence(monkeypatch):
    monkeypatch.setattr(budget, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"training-epsilon = 2: .*feddag-flwr\[privacy\]"):
        budget.check_installed(PrivacySettings(training_epsilon=2.0))
