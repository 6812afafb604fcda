"""Models judged on a client's test data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from feddag_flwr.metrics import Evaluation, Metric
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import FORWARD_CHUNK


@torch.no_grad()
def evaluate(
    model: ClusterModel, samples: Samples, num_classes: int, metrics: Sequence[Metric]
) -> Evaluation:
    """Judge a model in evaluation mode on all test samples, perhaps none, batch by batch."""
    model.eval()
    labels = samples.labels[:0]
    nothing = torch.zeros(0, num_classes, device=labels.device)
    found = [Evaluation.of(metrics, nothing, labels, nothing[:, 0])]
    for start in range(0, len(samples), FORWARD_CHUNK):
        chunk = slice(start, start + FORWARD_CHUNK)
        labels = samples.labels[chunk]
        scores = model(samples.inputs(chunk))
        losses = functional.cross_entropy(scores, labels, reduction="none")
        found.append(Evaluation.of(metrics, scores, labels, losses))
    return Evaluation.merged(found)
