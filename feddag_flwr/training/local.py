"""Phase 5 on a client: the primary and the secondary phase of local training (Eq. 16-20)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import Samples
from feddag_flwr.training.sgd import SGD

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


@dataclass(frozen=True)
class ProximalTerm:
    """The proximal term mu/2 |w - anchor|^2 of FedProx and FedSoft.

    Attributes
    ----------
    weight : float
        mu.
    anchor : list of Tensor
        One for each parameter of the primary encoder, then of the classifier.
    """

    weight: float
    anchor: list[Tensor]

    @classmethod
    def to_present(cls, weight: float, model: ClusterModel) -> ProximalTerm:
        """ProximalTerm towards the weights that the model has now."""
        parameters = _primary_parts(model).parameters()
        return cls(weight, [parameter.detach().clone() for parameter in parameters])

    def add_gradient(self, parameters: list[nn.Parameter]) -> None:
        """Add mu (w - anchor) to the gradients."""
        for parameter, anchor in zip(parameters, self.anchor, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self.weight)


def train_primary(
    model: ClusterModel,
    samples: Samples,
    settings: Settings,
    rng: np.random.Generator,
    epochs: int,
    proximal: ProximalTerm | None = None,
    weights: Tensor | None = None,
    *,
    separate_heads: bool = False,
) -> NDArray[np.float64]:
    """Train (P, K) with S frozen (Eq. 16, 17); a single-encoder model is trained whole.

    With `halves`, P and its half of K are trained on their own loss, as if there were no S.

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
    proximal : ProximalTerm, optional
        A proximal term.
    weights : Tensor, shape (n,), optional
        What each sample's loss counts in the mean over its batch; 1 where none are given.
    separate_heads : bool, optional
        Whether each half of K is trained with its own encoder.

    Returns
    -------
    ndarray, shape (epochs,), float64
        Mean loss a sample of each epoch, while it was being trained, in nats.
    """
    penalised = settings.diversity > 0
    looks = model.secondary is not None and (penalised or not separate_heads)
    frozen = encode(model.secondary, samples) if model.secondary is not None and looks else None
    head = model.classifier.primary_head

    def loss(index: Tensor) -> Tensor:
        features, labels = model.primary(samples.inputs(index)), samples.labels[index]
        other = None if frozen is None else frozen[index]
        logits = head(features) if separate_heads else model.classify(features, other)
        if weights is None:
            value = functional.cross_entropy(logits, labels)
        else:
            each = functional.cross_entropy(logits, labels, reduction="none")
            value = (each * weights[index]).mean()
        if other is not None and penalised:
            value = value + settings.diversity * diversity_penalty(features, other)
        return value

    trained = nn.ModuleList([model.primary, head]) if separate_heads else _primary_parts(model)
    return _descend(trained, loss, len(samples), settings, rng, epochs, proximal)


def _primary_parts(model: ClusterModel) -> nn.ModuleList:
    return nn.ModuleList([model.primary, model.classifier])


def train_secondary(
    model: ClusterModel,
    samples: Samples,
    settings: Settings,
    rng: np.random.Generator,
    epochs: int,
    *,
    separate_heads: bool = False,
) -> None:
    """Train S' with P and K frozen as received (Eq. 19, 20); parameters as `train_primary`.

    With `halves`, S' is trained together with its half of K on their own loss, not through a K that
    was trained on another S.

    Raises
    ------
    ValueError
        The model has no secondary encoder.
    """
    secondary, head = model.secondary, model.classifier.secondary_head
    if secondary is None or head is None:
        raise ValueError("the secondary phase needs a secondary encoder")
    if separate_heads:
        _descend(
            nn.ModuleList([secondary, head]),
            lambda index: functional.cross_entropy(
                head(secondary(samples.inputs(index))), samples.labels[index]
            ),
            len(samples), settings, rng, epochs,
        )  # fmt: skip
        return
    frozen = encode(model.primary, samples)
    model.classifier.requires_grad_(False)

    def loss(index: Tensor) -> Tensor:
        logits = model.classify(frozen[index], secondary(samples.inputs(index)))
        return functional.cross_entropy(logits, samples.labels[index])

    _descend(secondary, loss, len(samples), settings, rng, epochs)
    model.classifier.requires_grad_(True)


def train_fomaml(
    model: ClusterModel,
    samples: Samples,
    settings: Settings,
    rng: np.random.Generator,
    epochs: int,
    inner_rate: float,
) -> None:
    """Train (P, K) so that one more step fits them to the client: first-order MAML.

    Batches come in pairs. With the first, w' = w - alpha grad f(w); with the second, w takes an SGD
    step along grad f(w'), second derivatives left out. Source: Fallah et al. 2020, "Personalized
    Federated Learning with Theoretical Guarantees", Algorithm 1 with the approximation of its
    Section 5 (Per-FedAvg (FO)). As many gradients are computed as `train_primary` does.

    Parameters
    ----------
    model, samples, settings, rng, epochs
        As in `train_primary`; single-encoder models only.
    inner_rate : float
        alpha.

    Raises
    ------
    ValueError
        The model has a secondary encoder.
    """
    if model.secondary is not None:
        raise ValueError("the meta phase takes single-encoder models")
    trained = _primary_parts(model)
    parameters = list(trained.parameters())
    optimizer = SGD(parameters, settings)
    trained.train()
    device = parameters[0].device

    def compute_gradients(index: Tensor) -> None:
        optimizer.zero_grad()
        chosen = index.to(device)
        value = functional.cross_entropy(model(samples.inputs(chosen)), samples.labels[chosen])
        value.backward()  # type: ignore[no-untyped-call]

    drawn = [b for _ in range(epochs) for b in batches(len(samples), settings.batch_size, rng)]
    drawn = drawn if len(drawn) > 1 else drawn * 2
    for first, second in zip(drawn[0::2], drawn[1::2], strict=False):  # an odd one is left out
        compute_gradients(first)
        start = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=inner_rate)
        compute_gradients(second)
        with torch.no_grad():
            for parameter, before in zip(parameters, start, strict=True):
                parameter.copy_(before)
        optimizer.step()


def _descend(
    trained: nn.Module,
    loss: _Loss,
    count: int,
    settings: Settings,
    rng: np.random.Generator,
    epochs: int,
    proximal: ProximalTerm | None = None,
) -> NDArray[np.float64]:
    """Run SGD on the parameters of `trained`; return each epoch's mean loss."""
    parameters = list(trained.parameters())
    optimizer = SGD(parameters, settings)
    trained.train()
    device = parameters[0].device
    losses = []
    for _ in range(epochs):
        total = torch.zeros((), device=device)
        for index in batches(count, settings.batch_size, rng):
            optimizer.zero_grad()
            value = loss(index.to(device))
            value.backward()  # type: ignore[no-untyped-call]
            if proximal is not None:
                proximal.add_gradient(parameters)
            optimizer.step()
            total += value.detach() * len(index)
        losses.append(total)  # read after the last epoch: a GPU is not made to wait
    return np.array([float(total) / count for total in losses], dtype=np.float64)
