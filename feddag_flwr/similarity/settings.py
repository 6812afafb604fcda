"""Section ``similarity``: how views of the clients become one proximity (phase 2)."""

from __future__ import annotations

from typing import ClassVar, Literal

from feddag_flwr.sections import Above, Effect, Preset, Section, advanced, setting

# Evidence looks at class angles, but not at V of Eq. 6, which weighs them by frequencies.
_WEIGHED: Effect = ({"fusion": ("entropy", "data")},)
_ANGLES: Effect = (
    {"fusion": ("evidence", "entropy", "data")},
    {
        "encoders": ("two",),
        "secondary": ("shared",),
        "teacher-clusters": ("graph",),
        "alignment": (True,),
    },
)


class SimilaritySettings(Section):
    """How views of the clients become one proximity (phase 2)."""

    readers: ClassVar[tuple[str, ...]] = ("feddag",)

    fusion: Literal["evidence", "entropy", "data", "gradient"] = setting(
        Preset(own="evidence", paper="entropy"),
        "How clients are compared: by tests of views of their data (evidence), by Eq. 7 and 8, "
        "or by one view alone",
    )
    false_positive_rate: float = setting(
        0.01,
        "Chance at which clients of one kind are parted, where they are compared by evidence, and "
        "at which checks change clusters falsely",
        gt=0,
        le=0.5,
        effect=({"fusion": ("evidence",)}, {"refine-every": Above(0)}),
    )
    angle: Literal["vectors", "principal"] = advanced(
        "vectors",
        "Eq. 4 as written (smallest angle of two vectors) or the principal angle (Eq. 23)",
        effect=_ANGLES,
    )
    weight_delta: float = advanced(
        0.6, "Width of the range of frequency weights", symbol="delta", ge=0, le=1, effect=_WEIGHED
    )
    weight_scope: Literal["shared", "all"] = advanced(
        Preset(own="shared", paper="all"),
        "Classes that are weighted: those both clients have, or all (the paper's text)",
        effect=_WEIGHED,
    )
    fusion_steps: int = advanced(
        30,
        "Fusion by entropy: gradient steps on the weights (Eq. 8); more of them favour one view",
        ge=0,
        le=100_000,
        effect=({"fusion": ("entropy",)},),
    )
