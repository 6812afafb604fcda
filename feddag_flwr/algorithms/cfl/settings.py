"""CFL's own settings."""

from __future__ import annotations

from typing import Literal

from feddag_flwr.sections import Section, advanced, prefixed


class CFLSettings(Section, alias_generator=prefixed("cfl")):
    """CFL's own settings."""

    eps1: float = advanced(
        0.4, "A cluster may be cut while its mean update is shorter", symbol="eps_1", gt=0, le=1e6
    )
    eps2: float = advanced(
        1.6, "A cluster may be cut while its longest update is longer", symbol="eps_2", gt=0, le=1e6
    )
    thresholds: Literal["absolute", "relative"] = advanced(
        "relative", "Eps_1, eps_2 as they are, or times the longest mean update of a cluster so far"
    )
    gamma_max: float = advanced(
        0.0,
        "A cut must be separated by more than this; 0: any cut will do (the public code)",
        symbol="gamma_max",
        ge=0,
        le=1,
    )
    bipartition: Literal["complete", "optimal"] = advanced(
        "complete",
        "Cut by complete linkage (the public code) or by least similarity across (the paper)",
    )
    quiet_rounds: int = advanced(
        20, "First rounds, in which no cluster is cut", ge=0, le=100_000, unit="rounds"
    )
