"""Noise that can be drawn again, for tests alone."""

import numpy as np

from feddag_flwr.privacy.noise import GaussianNoise


def seeded_noise(seed):
    return GaussianNoise(np.random.default_rng(seed).bytes)
