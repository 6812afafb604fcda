"""Phase 5 on a client: the primary and the secondary phase of local training (Eq. 16-20)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import Samples

# Images that go through a network at once where no gradient is needed: bounds the activations.
FORWARD_CHUNK = 256

_Loss = Callable[[Tensor], Tensor]


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


def diversity_penalty(primary: Tensor, secondary: Tensor) -> Tensor:
    """Mean squared cosine between the two encoders' features (Eq. 42), a scalar in [0, 1]."""
    return functional.cosine_similarity(primary, secondary, dim=1).square().mean()


def train_primary(
    model: ClusterModel, samples: Samples, settings: Settings, rng: np.random.Generator, epochs: int
) -> None:
    """Train (P, K) with S frozen (Eq. 16, 17); a single-encoder model is trained whole.

    Parameters
    ----------
    model : ClusterModel
        Changed in place: the primary encoder and the classifier.
    samples : Samples
        The client's training data, on the model's device.
    settings : Settings
        Batch size, SGD and diversity settings.
    rng : numpy.random.Generator
        Draws the order of the samples.
    epochs : int
        Passes over the data.
    """
    frozen = None if model.secondary is None else encode(model.secondary, samples)
    trained = nn.ModuleList([model.primary, model.classifier])

    def loss(index: Tensor) -> Tensor:
        features = model.primary(samples.inputs(index))
        other = None if frozen is None else frozen[index]
        value = functional.cross_entropy(model.classify(features, other), samples.labels[index])
        if other is not None and settings.diversity > 0:
            value = value + settings.diversity * diversity_penalty(features, other)
        return value

    _descend(trained, loss, len(samples), settings, rng, epochs)


def train_secondary(
    model: ClusterModel, samples: Samples, settings: Settings, rng: np.random.Generator, epochs: int
) -> None:
    """Train S' with P and K frozen as received (Eq. 19, 20); parameters as `train_primary`.

    Raises
    ------
    ValueError
        The model has no secondary encoder.
    """
    secondary = model.secondary
    if secondary is None:
        raise ValueError("the secondary phase needs a secondary encoder")
    frozen = encode(model.primary, samples)
    model.classifier.requires_grad_(False)

    def loss(index: Tensor) -> Tensor:
        logits = model.classify(frozen[index], secondary(samples.inputs(index)))
        return functional.cross_entropy(logits, samples.labels[index])

    _descend(secondary, loss, len(samples), settings, rng, epochs)
    model.classifier.requires_grad_(True)


def _descend(
    trained: nn.Module,
    loss: _Loss,
    count: int,
    settings: Settings,
    rng: np.random.Generator,
    epochs: int,
) -> None:
    """Run SGD on the parameters of `trained`."""
    optimizer = torch.optim.SGD(
        trained.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    trained.train()
    device = next(trained.parameters()).device
    for _ in range(epochs):
        for index in batches(count, settings.batch_size, rng):
            optimizer.zero_grad()
            loss(index.to(device)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
