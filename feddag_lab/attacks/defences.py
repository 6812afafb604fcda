"""What is set against attacks: changes of a run's settings, by name.

A new one is a line in `DEFENCES`, and its name in `ON_UPDATES` or `ON_PROFILES`: all attacks on
these meet it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "none"
FLOAT16 = "float16"
BFLOAT16 = "bfloat16"
NOISE = "clipping and noise"
STRONG_NOISE = "clipping and noise x 10"
FEWEST = "min-subspace-samples"
PRIVATE_PROFILE = "private profile"

# What settings a private profile needs beside its epsilon.
PRIVATE: dict[str, Any] = {
    "initialisation": "random", "secondary-start": "random", "standardise": False,
    "drift-threshold": 0.0,
}  # fmt: skip

DEFENCES: Mapping[str, Mapping[str, Any]] = {
    NONE: {},
    FLOAT16: {"transport": "float16"},
    BFLOAT16: {"transport": "bfloat16"},
    NOISE: {"postprocessors": "feddag_lab.attacks.clipped_noise:ClippedNoise, transport"},
    STRONG_NOISE: {
        "postprocessors": "feddag_lab.attacks.clipped_noise:StrongClippedNoise, transport"
    },
    FEWEST: {"min-subspace-samples": 10},
    PRIVATE_PROFILE: {**PRIVATE, "profile-epsilon": 3.0},
}

# What is tried against attacks on updates beside number formats, and on profiles.
ON_UPDATES = (NOISE, STRONG_NOISE)
ON_PROFILES = (FEWEST, PRIVATE_PROFILE)
