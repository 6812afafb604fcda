"""The parts that settings name, one line each; what has to be imported is, once it is asked for."""

from __future__ import annotations

from typing import Any

from feddag_flwr.registry import Registry

AGGREGATORS: Registry[Any] = Registry(
    "aggregator",
    {
        "mean": "feddag_flwr.aggregators.mean:Mean",
        "clipped-mean": "feddag_flwr.aggregators.clipped_mean:ClippedMean",
        "median": "feddag_flwr.aggregators.median:Median",
        "trimmed-mean": "feddag_flwr.aggregators.trimmed_mean:TrimmedMean",
        "multi-krum": "feddag_flwr.aggregators.multi_krum:MultiKrum",
        "geometric-median": "feddag_flwr.aggregators.geometric_median:GeometricMedian",
    },
    ["aggregate"],
)
AUGMENTATIONS: Registry[Any] = Registry(
    "augmentation",
    {
        "none": "feddag_flwr.augmentations:NONE",
        "standard": "feddag_flwr.augmentations.standard:STANDARD",
        "randaugment": "feddag_flwr.augmentations.randaugment:RANDAUGMENT",
    },
    ["__call__"],
)
OBSERVERS: Registry[Any] = Registry(
    "observers",
    {
        "progress": "feddag_flwr.observers.progress:Progress",
        "round-log": "feddag_flwr.observers.round_log:RoundLog",
        "checkpoints": "feddag_flwr.observers.checkpoints:Checkpoints",
        "closing-table": "feddag_flwr.observers.closing_table:ClosingTable",
        "report": "feddag_flwr.observers.report:Report",
    },
    ["run_started", "round_over", "run_over"],
)
METRICS: Registry[Any] = Registry(
    "metrics",
    {
        "balanced-accuracy": "feddag_flwr.metrics.balanced_accuracy:BalancedAccuracy",
        "accuracy": "feddag_flwr.metrics.accuracy:Accuracy",
        "loss": "feddag_flwr.metrics.loss:Loss",
        "macro-f1": "feddag_flwr.metrics.macro_f1:MacroF1",
        "auroc": "feddag_flwr.metrics.auroc:AUROC",
        "average-precision": "feddag_flwr.metrics.average_precision:AveragePrecision",
        "calibration-error": "feddag_flwr.metrics.calibration_error:CalibrationError",
    },
    ["arrays", "update", "value"],
)
MODALITIES: Registry[Any] = Registry(
    "modality",
    {
        "image": "feddag_flwr.modalities.image:Image",
        "tabular": "feddag_flwr.modalities.tabular:Tabular",
        "series": "feddag_flwr.modalities.series:Series",
        "embedding": "feddag_flwr.modalities.embedding:Embedding",
    },
    ["accept", "spec", "moments"],
)
OBJECTIVES: Registry[Any] = Registry(
    "objective",
    {"cross-entropy": "feddag_flwr.objectives.cross_entropy:CROSS_ENTROPY"},
    ["loss", "sample_losses"],
)
OPTIMISERS: Registry[Any] = Registry(
    "optimiser",
    {
        "sgd": "feddag_flwr.optimisers.sgd:SGD",
        "adamw": "feddag_flwr.optimisers.adamw:AdamW",
    },
    ["__call__"],
)
POSTPROCESSORS: Registry[Any] = Registry(
    "postprocessors",
    {"transport": "feddag_flwr.postprocessors.transport:Transport"},
    ["on_client", "on_server"],
)
TRAINERS: Registry[Any] = Registry(
    "trainer", {"sequential": "feddag_flwr.trainers.sequential:SEQUENTIAL"}, ["train"]
)
