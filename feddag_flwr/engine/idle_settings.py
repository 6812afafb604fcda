"""Settings that were given and do nothing in a run; they are named at its start.

Looked at are settings of one algorithm alone, FedDAG's own that others of its own leave idle, and
``num-clusters``; not those that some algorithms share otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.federation.context import listed
from feddag_flwr.settings import PAPER, Settings

logger = logging.getLogger("flwr")

# What FedDAG reads and no baseline does; a test holds it against the algorithms.
FEDDAG_ALONE = (
    "preset", "angle", "weight_delta", "weight_scope", "fusion", "fusion_steps", "threshold_step",
    "split_persistence", "size_gamma", "size_tau", "size_lambda", "drift_threshold",
    "regroup_share", "secondary", "sources", "agreement_rounds", "agreement_threshold", "top_k",
    "alignment", "combine_sources", "classifier_training", "secondary_start", "schedule",
    "initialisation", "diversity",
)  # fmt: skip

# Who is told how many clusters there are; the others find out, or have none.
TOLD_THE_NUMBER = ("cfl-gp", "fedrc", "fedsoft", "ifca", "pacfl")


def tell_of_settings(settings: Settings) -> None:
    """Log what the preset sets, and name settings that were given where they do nothing."""
    feddag, values = settings.algorithm == "feddag", settings.to_run_config()
    if feddag and settings.preset == "paper":
        pairs = [f"{name} = {values[name]!r}" for name in PAPER]
        logger.info(
            "preset = %r: %s (where our default was given, it counts as not given)",
            settings.preset,
            ", ".join(pairs),
        )
    for names, where in _idle(settings):
        if given := _given(settings, names):
            logger.warning("%s: no effect on training here, only where %s", listed(given), where)
    if feddag and 0 < settings.num_rounds < settings.secondary_period:
        logger.warning(
            "schedule = %r: no round of num-rounds = %d trains the secondary encoder, the first "
            "would be round %d",
            settings.schedule,
            settings.num_rounds,
            settings.secondary_period,
        )


def _given(settings: Settings, names: Sequence[str]) -> list[str]:
    """Return those of `names`, hyphenated, whose values are not the default's or the preset's."""
    fields, values = Settings.model_fields, settings.to_run_config()
    preset = PAPER if settings.preset == "paper" else {}
    usual = {str(fields[name].alias): fields[name].default for name in names}
    return [name for name, default in usual.items() if values[name] != preset.get(name, default)]


def _idle(settings: Settings) -> Iterator[tuple[Sequence[str], str]]:
    """Yield settings that nothing reads under these settings, and where something would."""
    for owner in ALGORITHMS:
        if owner != settings.algorithm:
            yield _own_settings(owner), f"algorithm = {owner!r}"
    if settings.algorithm not in TOLD_THE_NUMBER:
        yield ("num_clusters",), f"algorithm is one of {', '.join(TOLD_THE_NUMBER)}"
    if settings.algorithm == "feddag":
        yield from _idle_in_feddag(settings)


def _own_settings(algorithm: str) -> Sequence[str]:
    """Return the settings that one algorithm alone reads: FedDAG's, or those a baseline names."""
    if algorithm == "feddag":
        return FEDDAG_ALONE
    return [
        name
        for name, field in Settings.model_fields.items()
        if str(field.description).partition(":")[0].lower() == algorithm
    ]


def _idle_in_feddag(settings: Settings) -> Iterator[tuple[Sequence[str], str]]:
    """Yield FedDAG's settings that other settings of its own leave without effect."""
    shared = "secondary = 'shared'"
    sharing, dual = settings.secondary == "shared", settings.secondary != "none"
    graph = sharing and settings.sources == "graph"
    # Evidence looks at class angles, but not at V of Eq. 6, which weighs them by frequencies.
    weighed, angled = settings.fusion in {"entropy", "data"}, settings.fusion != "gradient"
    for names, in_use, where in (
        (("top_k", "alignment"), graph, f"{shared} and sources = 'graph'"),
        (("agreement_rounds", "agreement_threshold"), sharing and settings.sources == "agreeing",
         f"{shared} and sources = 'agreeing'"),
        (("sources", "combine_sources"), sharing, shared),
        (("classifier_training", "secondary_start"), dual, f"{shared} or 'own'"),
        (("fusion_steps",), settings.fusion == "entropy", "fusion = 'entropy'"),
        (("weight_delta", "weight_scope"), weighed, "fusion = 'entropy' or 'data'"),
        (("angle",), angled or (graph and settings.alignment),
         f"fusion is not 'gradient', or {shared}, sources = 'graph' and alignment = true"),
    ):  # fmt: skip
        if not in_use:
            yield names, where
