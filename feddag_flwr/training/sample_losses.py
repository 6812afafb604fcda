"""Models compared on a client's training data."""

from __future__ import annotations

import torch
from torch import Tensor

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.objectives import Objective
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import FORWARD_CHUNK


@torch.no_grad()
def sample_losses(model: ClusterModel, samples: Samples, objective: Objective) -> Tensor:
    """Loss of each sample; shape (n,), float64, the model in evaluation mode."""
    model.eval()
    losses = []
    for start in range(0, len(samples), FORWARD_CHUNK):
        chunk = slice(start, start + FORWARD_CHUNK)
        logits = model(samples.inputs(chunk)).double()
        losses.append(objective.sample_losses(logits, samples.labels[chunk]))
    return torch.cat(losses)
