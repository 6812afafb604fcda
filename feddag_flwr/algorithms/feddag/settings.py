"""Section ``sharing``: what clusters learn from each other (phases 4 and 5)."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import field_validator, model_validator

from feddag_flwr.sections import Effect, Preset, Section, advanced, setting

_TWO: Effect = ({"encoders": ("two",)},)
_DUAL: Effect = ({"encoders": ("two",), "secondary": ("shared", "own")},)
_SHARED: Effect = ({"encoders": ("two",), "secondary": ("shared",)},)
_GRAPH: Effect = ({**_SHARED[0], "teacher-clusters": ("graph",)},)
_AGREEING: Effect = ({**_SHARED[0], "teacher-clusters": ("agreeing",)},)


class SharingSettings(Section):
    """What clusters learn from each other (phases 4 and 5)."""

    readers: ClassVar[tuple[str, ...]] = ("feddag",)

    encoders: Literal["two", "one"] = advanced(
        "two",
        "two: a cluster's own and a secondary one (the paper); one: a single encoder that all "
        "clusters train, with a head a cluster",
    )
    secondary: Literal["shared", "own", "none"] = setting(
        "shared",
        "Secondary encoder: trained by teacher clusters (FedDAG), by the cluster itself "
        "(FedDAG-dagger), or absent (FedDAG*)",
        effect=_TWO,
    )
    teacher_clusters: Literal["agreeing", "all", "graph"] = setting(
        Preset(own="agreeing", paper="graph"),
        "Clusters that train a cluster's shared secondary encoder: those whose updates of it "
        "agree (all at first), all, or the top-k of the complementarity graph",
        effect=_SHARED,
    )
    combine_teachers: Literal["mean", "sum"] = advanced(
        Preset(own="mean", paper="sum"),
        "How the updates of several teacher clusters join: their mean, in which one of one client "
        "counts as much as one of fifty, or their sum (Eq. 21)",
        effect=_SHARED,
    )
    agreement_rounds: int = advanced(
        8,
        "Rounds of the secondary phase over which agreement is measured; clusters part that fall "
        "short in two such spans on end, in the second hardly less",
        unit="rounds",
        ge=1,
        le=10_000,
        effect=_AGREEING,
    )
    agreement_threshold: float = advanced(
        0.3,
        "Agreement from which on clusters share a secondary encoder",
        ge=0,
        le=1,
        effect=_AGREEING,
    )
    top_k: int = advanced(
        2,
        "Teachers of a cluster in the complementarity graph",
        symbol="k",
        ge=1,
        le=1000,
        effect=_GRAPH,
    )
    alignment: bool = advanced(True, "Scores of teachers by Eq. 14; false: Eq. 12", effect=_GRAPH)
    classifier_training: Literal["separate", "joint"] = advanced(
        Preset(own="separate", paper="joint"),
        "separate: each encoder and its head, its half of the classifier, on their own loss; "
        "joint: P and the whole classifier, then S alone, on the whole model's loss (Eq. 16 to 20)",
        symbol="K",
        effect=_DUAL,
    )
    secondary_start: Literal["warm", "random"] = advanced(
        Preset(own="warm", paper="random"),
        "Secondary encoders: mean of all clients' warmed-up ones, or random",
        effect=_DUAL,
    )
    schedule: str = advanced(
        "both",
        "Phases of a round: both, or K:1 (K primary rounds, then a secondary one; B.9)",
    )
    initialisation: Literal["warm", "random"] = advanced(
        "warm", "Primary encoders: mean of the members' warmed-up ones (Eq. 22), or random (A.11)"
    )

    @field_validator("schedule")
    @classmethod
    def _both_or_k_to_one(cls, value: str) -> str:
        if not re.fullmatch("both|[1-9][0-9]{0,3}:1", value):
            raise ValueError("must be both, or K:1 with K of 1 to 9999")
        return value

    @property
    def dual(self) -> bool:
        """Whether a cluster's model has a secondary encoder."""
        return self.encoders == "two" and self.secondary != "none"

    @property
    def secondary_period(self) -> int:
        """Rounds from one secondary phase to the next."""
        return 1 if self.schedule == "both" else 1 + int(self.schedule.partition(":")[0])

    @model_validator(mode="after")
    def _phases_and_heads_fit(self) -> SharingSettings:
        if not self.dual and self.schedule != "both":
            without = "secondary = 'none'" if self.encoders == "two" else "encoders = 'one'"
            raise ValueError(
                f"schedule = {self.schedule!r}: {without} has no such phase, must be 'both'"
            )
        by_graph = self.secondary == "shared" and self.teacher_clusters == "graph"
        if self.dual and by_graph and self.classifier_training == "separate":
            raise ValueError(
                f"classifier-training = {self.classifier_training!r}: under teacher-clusters = "
                "'graph' a cluster trains other clusters' S, and its head for it would not fit "
                "its own; must be 'joint'"
            )
        return self
