r"""Private training: what a client's steps may tell, and what they cost, by dp-accounting.

Two data sets of a client are neighbours where one has one sample x more than the other. A step at
weights w chooses each sample by itself with chance q (`noise.GaussianNoise.chosen`) and makes

.. math:: \tilde g = \sum_{i \in B} g_i \min(1, C / |g_i|) + \sigma C z, \qquad
          z \sim N(0, I).

:math:`g_i` is the gradient of sample i alone, all parameters of the step in one vector; it depends
on w and on that sample, and on no other. So with the same draw for all others the two sums are
equal where x is not drawn, and else they differ by x's clipped gradient, whose norm is C at most:
the sensitivity is C, and a step is a Poisson-subsampled Gaussian mechanism of rate q and noise
multiplier :math:`\sigma` (Abadi et al. 2016, Algorithm 1). Weights after a step are computed from
:math:`\tilde g` and what was known before, so that steps compose adaptively, whoever chose the
weights that they began with.

A mean gradient is :math:`\tilde g / (q \tilde n)`. :math:`\tilde n` is the number of samples with
Gaussian noise of its own, told once and counted; one sample more moves the number by 1. It is the
client's weight in averages, too. The number of steps is the settings', never the data's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from feddag_flwr.privacy.budget import ProfileBudget
from feddag_flwr.privacy.noise import GaussianNoise

if TYPE_CHECKING:
    from feddag_flwr.settings import Settings

# Of the budget, as that of a Gaussian mechanism counts (mu^2): what the number of samples costs.
NUMBER_SHARE: Final = 0.1
_ENOUGH: Final = 1e-3  # share of epsilon, and of the noise, that looking for the least may waste
_STRIDE: Final = 1.2
LEAST_NOISE: Final = 0.3  # noise multiplier below which nobody trains


class Spent(NamedTuple):
    """What a client was asked for: profiles, its number of samples, steps of training."""

    profiles: int = 0
    numbers: int = 0
    steps: int = 0

    def plus(self, other: Spent) -> Spent:
        """Return what both are together."""
        return Spent(*(mine + its for mine, its in zip(self, other, strict=True)))

    def within(self, other: Spent) -> bool:
        """Tell whether nothing of it is more than the other's."""
        return all(mine <= its for mine, its in zip(self, other, strict=True))


@dataclass(frozen=True)
class TrainingPlan:
    """How clients train privately, and what a client that is asked in every round tells.

    Attributes
    ----------
    delta : float
        As promised.
    clip, rate : float
        C and q.
    steps, passes : int
        Steps of one local training, and local trainings of a client in a run, at most.
    noise : float
        Noise multiplier sigma of a step.
    number_noise : float
        Standard deviation of the noise of the number of samples.
    """

    delta: float
    clip: float
    rate: float
    steps: int
    passes: int
    noise: float
    number_noise: float

    @classmethod
    def of(cls, settings: Settings) -> TrainingPlan:
        """Find the least noise with which a client that is asked in every round keeps the promise.

        The profile, which has an epsilon of its own, is not part of this one.
        """
        privacy, steps = settings.privacy, steps_of(settings)
        passes = passes_of_a_round(settings) * max(1, settings.run.num_rounds)
        noises = _least_noise(
            privacy.training_epsilon,
            privacy.training_delta,
            privacy.training_sampling_rate,
            steps * passes,
        )
        return cls(
            privacy.training_delta,
            privacy.training_clip,
            privacy.training_sampling_rate,
            steps,
            passes,
            *noises,
        )

    def number_told(self, samples: int, noise: GaussianNoise) -> int:
        """Return a number of samples with noise, 1 at least."""
        return max(1, round(samples + self.number_noise * float(noise.normal(1)[0])))

    def in_words(self) -> str:
        """Say how clients train."""
        return (
            f"private training: {self.steps} steps a local training, each sample in a step with "
            f"chance {self.rate:g}, gradients clipped to {self.clip:g}, noise multiplier "
            f"{self.noise:.3g}"
        )


def steps_of(settings: Settings) -> int:
    """Return the steps of one local training: ``local-steps``, or 1/q an epoch."""
    training = settings.training
    an_epoch = max(1, round(1.0 / settings.privacy.training_sampling_rate))
    return training.local_steps or training.local_epochs * an_epoch


def passes_of_a_round(settings: Settings) -> int:
    """Return the local trainings that a round asks of a client at most.

    FedDAG trains the secondary encoder as well, unless rounds take turns.
    """
    sharing = settings.sharing
    both = settings.run.algorithm == "feddag" and sharing.dual and sharing.schedule == "both"
    return 2 if both else 1


@dataclass(frozen=True)
class PrivacyCosts:
    """What is promised of clients that were asked for so much.

    Attributes
    ----------
    profile : ProfileBudget or None
        Of private profiles.
    training : TrainingPlan or None
        Of private training, whose delta stands for all.
    """

    profile: ProfileBudget | None
    training: TrainingPlan | None

    @classmethod
    def of(cls, settings: Settings) -> PrivacyCosts:
        """Return those of a run; solving for the noise takes seconds, once a process."""
        privacy = settings.privacy
        profile = training = None
        if privacy.profile_on:
            profile = ProfileBudget.of(privacy.profile_epsilon, privacy.profile_delta)
        if privacy.training_on:
            training = TrainingPlan.of(settings)
        return cls(profile, training)

    @property
    def delta(self) -> float:
        """At which epsilon is told."""
        told = self.training or self.profile
        assert told is not None
        return told.delta

    @property
    def planned(self) -> Spent:
        """What a client tells that is asked in every round, and never twice."""
        plan = self.training
        steps = plan.steps * plan.passes if plan else 0
        return Spent(int(self.profile is not None), int(plan is not None), steps)

    def epsilon(self, spent: Spent) -> float:
        """Epsilon at delta of all that a client told, composed."""
        return _epsilon(self, spent)


@lru_cache
def _epsilon(costs: PrivacyCosts, spent: Spent) -> float:
    plan, profile = costs.training, costs.profile
    if plan is None:
        return profile.epsilon(spent.profiles) if profile else 0.0
    from dp_accounting import ComposedDpEvent, GaussianDpEvent

    events: list[Any] = [GaussianDpEvent(plan.number_noise)] * spent.numbers
    if profile:
        events += [GaussianDpEvent(profile.noise)] * spent.profiles
    if spent.steps:
        events.append(_steps_event(plan.rate, plan.noise, spent.steps))
    return _by_losses(ComposedDpEvent(events), plan.delta) if events else 0.0


def _steps_event(rate: float, noise: float, steps: int) -> Any:  # noqa: ANN401 - is not typed
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

    return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), steps)


def _by_losses(event: Any, delta: float) -> float:  # noqa: ANN401
    """Epsilon by the distribution of privacy losses, which is rounded up, never down."""
    from dp_accounting import pld

    return float(pld.PLDAccountant().compose(event).get_epsilon(delta))


@lru_cache
def _least_noise(epsilon: float, delta: float, rate: float, steps: int) -> tuple[float, float]:
    """Return the noise multiplier of steps, and the noise of the number of samples.

    Log epsilon is nearly linear in log sigma, so that Brent's method needs few evaluations. What it
    finds is raised until the accountant says that it is enough.
    """
    from dp_accounting import ComposedDpEvent, GaussianDpEvent, get_sigma_gaussian
    from scipy.optimize import brentq

    alone = float(get_sigma_gaussian(epsilon, delta))
    number_noise = alone / math.sqrt(NUMBER_SHARE)

    @lru_cache
    def told(noise: float) -> float:
        steps_event = _steps_event(rate, noise, steps)
        event = ComposedDpEvent([GaussianDpEvent(number_noise), steps_event])
        return _by_losses(event, delta)

    low = high = max(0.6, alone * rate * math.sqrt(steps))
    while told(high) > epsilon:
        low, high = high, high * _STRIDE
    while low > LEAST_NOISE and told(low) <= epsilon:
        low, high = max(LEAST_NOISE, low / _STRIDE), low
    if told(low) <= epsilon:  # no less noise is ever drawn
        return low, number_noise
    found = brentq(
        lambda log_noise: math.log(told(math.exp(log_noise)) / epsilon),
        math.log(low),
        math.log(high),
        xtol=_ENOUGH / 2,
    )
    noise = math.exp(float(found))
    while told(noise) > epsilon:
        noise *= 1.0 + _ENOUGH
    return noise, number_noise
