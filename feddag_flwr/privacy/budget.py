r"""What a private profile costs, by Google's package dp-accounting (extra ``privacy``).

A profile is one Gaussian mechanism: counts with noise :math:`\sigma_c` and second moments with
noise :math:`\sigma_m`, each of sensitivity 1 (`feddag_flwr.privacy.mechanism`). Divided by their
noise they are one vector with noise 1 and sensitivity :math:`\mu`,

.. math:: \mu^2 = 1 / \sigma_c^2 + 1 / \sigma_m^2,

and k profiles of one client, each with noise of its own, have :math:`\sqrt{k} \mu`. Epsilon at
delta of a Gaussian mechanism is known exactly (Balle and Wang 2018, Theorem 8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from feddag_flwr.privacy.settings import PrivacySettings
from feddag_flwr.sections import SettingsError

# Of mu^2, half: label sets need exact counts as much as subspaces need exact second moments.
COUNT_SHARE: Final = 0.5
_ROUNDING: Final = 1.0 + 1e-9  # noise is solved for to some digits, and must not be less


@dataclass(frozen=True)
class ProfileBudget:
    """Noise of a private profile, and what it promises.

    Attributes
    ----------
    delta : float
        As promised.
    count_noise, moment_noise : float
        Standard deviations for sensitivity 1.
    """

    delta: float
    count_noise: float
    moment_noise: float

    @classmethod
    def of(cls, epsilon: float, delta: float) -> ProfileBudget:
        """Find the least noise that keeps a promise.

        Raises
        ------
        SettingsError
            dp-accounting is not installed.
        """
        _require("profile-epsilon", epsilon)
        from dp_accounting import get_sigma_gaussian

        sigma = float(get_sigma_gaussian(epsilon, delta)) * _ROUNDING
        return cls(delta, sigma / math.sqrt(COUNT_SHARE), sigma / math.sqrt(1.0 - COUNT_SHARE))

    @property
    def noise(self) -> float:
        """Noise of the whole profile, for sensitivity 1: one over mu."""
        return 1.0 / math.hypot(1.0 / self.count_noise, 1.0 / self.moment_noise)

    def epsilon(self, profiles: int = 1) -> float:
        """Epsilon at delta of so many profiles of one client; 0 of none."""
        from dp_accounting import get_epsilon_gaussian

        if not profiles:
            return 0.0
        return float(get_epsilon_gaussian(self.noise / math.sqrt(profiles), self.delta))


def check_installed(privacy: PrivacySettings) -> None:
    """Refuse private profiles and private training where nothing can account for them."""
    if privacy.profile_on:
        _require("profile-epsilon", privacy.profile_epsilon)
    if privacy.training_on:
        _require("training-epsilon", privacy.training_epsilon)


def _require(key: str, epsilon: float) -> None:
    if find_spec("dp_accounting") is None:
        raise SettingsError(
            f"setting {key} = {epsilon:g}: needs dp-accounting: install the extra, pip install "
            "'feddag-flwr[privacy]'"
        )
