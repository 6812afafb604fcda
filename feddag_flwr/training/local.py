"""Passes over a client's data: random batches for training, chunks in order for all else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from feddag_flwr.metrics import Evaluation, Metric
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.objectives import Objective
from feddag_flwr.training.device import Samples

# Samples that go through a network at once where nothing is trained: bounds the activations.
FORWARD_CHUNK = 256


def batches(count: int, batch_size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield one epoch of index batches in random order, every sample once.

    A last batch of a single sample joins the one before it: batch normalisation has no variance
    to offer for one sample.
    """
    order = torch.from_numpy(rng.permutation(count))
    pieces = list(torch.split(order, batch_size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    yield from pieces


def chunks(samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and labels of all samples in their order, `FORWARD_CHUNK` at a time."""
    for start in range(0, len(samples), FORWARD_CHUNK):
        chunk = slice(start, start + FORWARD_CHUNK)
        yield samples.inputs(chunk), samples.labels[chunk]


def balanced_weights(labels: Tensor) -> Tensor:
    """Weight of each sample, shape (n,), float32, with which all classes present count alike.

    n / (classes present x samples of its class), as scikit-learn's ``class_weight="balanced"``.
    """
    counts = functional.one_hot(labels).sum(dim=0)
    weights: Tensor = len(labels) / (torch.count_nonzero(counts) * counts[labels])
    return weights.float()


@torch.no_grad()
def encode(encoder: nn.Module, samples: Samples) -> Tensor:
    """Features (n, feature_size) of all samples under a frozen encoder, in evaluation mode."""
    encoder.eval()
    return torch.cat([encoder(inputs) for inputs, _ in chunks(samples)])


@torch.no_grad()
def sample_losses(model: ClusterModel, samples: Samples, objective: Objective) -> Tensor:
    """Loss of each sample; shape (n,), float64, the model in evaluation mode."""
    model.eval()
    losses = [
        objective.sample_losses(model(inputs).double(), labels)
        for inputs, labels in chunks(samples)
    ]
    return torch.cat(losses)


@torch.no_grad()
def evaluate(
    model: ClusterModel, samples: Samples, num_classes: int, metrics: Sequence[Metric]
) -> Evaluation:
    """Judge a model in evaluation mode on all test samples, perhaps none, chunk by chunk."""
    model.eval()
    nothing = torch.zeros(0, num_classes, device=samples.labels.device)
    evaluations = [Evaluation.of(metrics, nothing, samples.labels[:0], nothing[:, 0])]
    for inputs, labels in chunks(samples):
        scores = model(inputs)
        losses = functional.cross_entropy(scores, labels, reduction="none")
        evaluations.append(Evaluation.of(metrics, scores, labels, losses))
    return Evaluation.merged(evaluations)
