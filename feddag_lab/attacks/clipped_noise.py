"""The postprocessor of docs/extending.md, as a defence to be measured: no budget is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from feddag_flwr.aggregation import Weights
from feddag_flwr.postprocessors import ClientContext, Postprocessor


class ClippedNoise(Postprocessor):
    """Bounds how far each part of a model moves, and adds Gaussian noise.

    The noise is drawn from the operating system's entropy: the server knows the run's seed.

    Attributes
    ----------
    longest : float
        Most Euclidean length of a part's move.
    noise : float
        Standard deviation of what is added to each weight.
    """

    longest: ClassVar[float] = 0.05
    noise: ClassVar[float] = 0.0001

    def on_client(
        self, update: Mapping[str, Weights], received: Mapping[str, Weights], context: ClientContext
    ) -> Mapping[str, Weights]:
        """Return the parts, moved less far and with noise."""
        del context
        rng = np.random.default_rng()
        return {name: self._blurred(part, received[name], rng) for name, part in update.items()}

    def _blurred(self, part: Weights, start: Weights, rng: np.random.Generator) -> Weights:
        moved = part.floats - start.floats
        factor = min(1.0, self.longest / max(float(np.linalg.norm(moved)), 1e-12))
        noise = self.noise * rng.standard_normal(moved.size)
        return replace(part, floats=(start.floats + factor * moved + noise).astype(np.float32))


class StrongClippedNoise(ClippedNoise):
    """The same with ten times the noise."""

    noise: ClassVar[float] = 0.001
