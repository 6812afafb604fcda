"""Models judged on a client's test data."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from feddag_flwr.metrics import Evaluation
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import FORWARD_CHUNK


@torch.no_grad()
def evaluate(model: ClusterModel, samples: Samples, num_classes: int) -> Evaluation:
    """Count hits a class and sum the cross-entropy over all test samples.

    Parameters
    ----------
    model : ClusterModel
        Evaluated in evaluation mode.
    samples : Samples
        Test data on the model's device; may be empty.
    num_classes : int
        Length C of the counts.
    """
    model.eval()
    hits = np.zeros(num_classes, dtype=np.int64)
    loss_sum = 0.0
    for start in range(0, len(samples), FORWARD_CHUNK):
        chunk = slice(start, start + FORWARD_CHUNK)
        labels = samples.labels[chunk]
        logits = model(samples.inputs(chunk))
        loss_sum += float(functional.cross_entropy(logits, labels, reduction="sum"))
        right = labels[logits.argmax(dim=1) == labels]
        hits += np.bincount(right.cpu().numpy(), minlength=num_classes)
    totals = np.bincount(samples.labels.cpu().numpy(), minlength=num_classes)
    return Evaluation(hits, totals.astype(np.int64), loss_sum)
