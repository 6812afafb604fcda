"""Gaussian noise that nobody can draw again: from the operating system's generator.

The run's seed is known to the server, and noise drawn by it could be taken off; so could samples
that are chosen by it be known.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_BITS = 52  # so that the middle of each of 2^52 steps is exact in double precision


@dataclass(frozen=True)
class GaussianNoise:
    """Standard normal numbers, made of random bytes.

    Attributes
    ----------
    source : callable
        From a number to so many random bytes; by default ``os.urandom``.
    """

    source: Callable[[int], bytes] = os.urandom

    def normal(self, *shape: int) -> FloatArray:
        """Draw independent standard normal numbers, by inversion of uniform ones of 52 bits.

        The tails end at 8.2 deviations, beyond which a normal number lies with chance 2e-16.
        """
        from scipy.special import ndtri  # no message but a private one needs it

        drawn: FloatArray = ndtri((self._steps(*shape) + 0.5) * 2.0**-_BITS)
        return drawn

    def chosen(self, count: int, rate: float) -> NDArray[np.intp]:
        """Choose among so many, each with chance `rate` and by itself (Poisson sampling).

        The chance is that of a multiple of 2^-52 below it. Returns indices in ascending order.
        """
        return np.flatnonzero(self._steps(count) < math.floor(rate * 2.0**_BITS))

    def _steps(self, *shape: int) -> FloatArray:
        """Draw whole numbers evenly from 0 to 2^52 - 1."""
        words = np.frombuffer(self.source(8 * math.prod(shape)), dtype="<u8") >> (64 - _BITS)
        drawn: FloatArray = words.astype(np.float64).reshape(shape)
        return drawn

    def symmetric(self, order: int) -> FloatArray:
        """Draw a symmetric matrix that is equally noisy in all directions of the Frobenius norm.

        Its inner product with any symmetric matrix of Frobenius norm 1 is standard normal: entries
        have variance 1 on the diagonal and 1/2 off it. Its largest eigenvalue is about
        sqrt(2 order).
        """
        square = self.normal(order, order)
        return (square + square.T) / 2.0
