"""Every random draw's generator, derived from (seed, purpose, round, client name).

No generator is ever passed on or shared, so a draw depends neither on the order in which replies
come in nor on the process that makes it.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def derived_seed(seed: int, purpose: str, *, server_round: int = 0, client: str = "") -> int:
    """Derive a seed in [0, 2**63), fit for NumPy and for PyTorch, from what the draw is for.

    Parameters
    ----------
    seed : int
        The run's seed (setting ``seed``).
    purpose : str
        What is drawn, for instance ``"sample-clients"``.
    server_round, client : int, str, optional
        0 before the first round; empty for draws that concern no single client.
    """
    key = json.dumps([seed, purpose, server_round, client]).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def generator(
    seed: int, purpose: str, *, server_round: int = 0, client: str = ""
) -> np.random.Generator:
    """Make the NumPy generator of one draw; parameters as in `derived_seed`."""
    return np.random.default_rng(
        derived_seed(seed, purpose, server_round=server_round, client=client)
    )
