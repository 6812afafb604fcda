"""Batches of a client's data, in random order or all at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from feddag_flwr.training.device import Samples

# Images that go through a network at once where no gradient is needed: bounds the activations.
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


@torch.no_grad()
def encode(encoder: nn.Module, samples: Samples) -> Tensor:
    """Features (n, feature_size) of all samples under a frozen encoder, in evaluation mode."""
    encoder.eval()
    chunks = [
        encoder(samples.inputs(slice(start, start + FORWARD_CHUNK)))
        for start in range(0, len(samples), FORWARD_CHUNK)
    ]
    return torch.cat(chunks)
