"""Section ``clustering``: how many clusters there are, and who is in which (phase 3)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator

from feddag_flwr.sections import Effect, Section, advanced, setting

MIN_THRESHOLD_STEP = 0.001
# Models that one message carries: each has two parts, and a message takes a thousand.
MOST_CANDIDATES = 500
# Tests part clients as they are; a clustering is chosen only where there are none.
_CHOSEN: Effect = ({"fusion": ("entropy", "data", "gradient")},)


class ClusteringSettings(Section):
    """How many clusters there are, and who is in which (phase 3)."""

    readers: ClassVar[tuple[str, ...]] = ("feddag",)

    num_clusters: int = setting(
        5,
        "Models of the algorithms that must be told how many; fedrc, fedsoft, ifca: 500 at most",
        symbol="K",
        ge=1,
        le=1000,
        readers=("cfl-gp", "fedrc", "fedsoft", "ifca", "pacfl"),
    )
    linkage: Literal["average", "complete", "single"] = advanced(
        "average",
        "Linkage criterion",
        readers=("feddag", "pacfl"),
        effect=(*_CHOSEN, {"algorithm": ("pacfl",)}),
    )
    threshold_step: float = advanced(
        0.05,
        "Step between candidate thresholds; 0: every merge height",
        symbol="S_alpha",
        ge=0,
        le=0.5,
        effect=_CHOSEN,
    )
    split_persistence: float = advanced(
        0.33,
        "Share of the persistence at which a finer clustering of lower loss is preferred",
        ge=0,
        le=1,
        effect=_CHOSEN,
    )
    size_gamma: float = advanced(
        1.0,
        "Standard deviations below the mean size that are free of penalty",
        symbol="gamma",
        ge=0,
        le=100,
        effect=_CHOSEN,
    )
    size_tau: float = advanced(
        1.0, "Scale of the size penalty", symbol="tau", gt=0, le=1e6, effect=_CHOSEN
    )
    size_lambda: float = advanced(
        0.01, "Weight of the size penalty", symbol="lambda", ge=0, le=1e6, effect=_CHOSEN
    )
    drift_threshold: float = advanced(
        0.2,
        "Share of a client's samples that must have changed class for it to be placed anew "
        "(Eq. 41); 0: never",
        symbol="xi",
        ge=0,
        le=1,
    )
    looks_level: float = advanced(
        0.0,
        "Chance below which a client whose classes look otherwise than in its profile is placed "
        "anew, at each look; 0: never. 1e-6 suits; the profile and each request grow by some KB",
        ge=0,
        le=0.01,
    )
    unlabelled: Literal["refuse", "place"] = advanced(
        "refuse",
        "Clients whose data has no labels: refused, or placed by what their samples look like; "
        "they take no part in training",
    )
    recluster_share: float = advanced(
        0.5,
        "Clients placed since the last clustering, as a share of all, at which all are clustered "
        "anew; 0: never",
        ge=0,
        le=1,
    )

    refine_every: int = advanced(
        0,
        "Rounds between checks on held-back data whether clusters should merge, split or exchange "
        "clients; 0: never",
        ge=0,
        le=100_000,
        unit="rounds",
    )

    @field_validator("threshold_step")
    @classmethod
    def _step_or_none(cls, value: float) -> float:
        if 0 < value < MIN_THRESHOLD_STEP:
            raise ValueError(f"must be 0 or at least {MIN_THRESHOLD_STEP}")
        return value
