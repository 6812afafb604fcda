"""Which of several models answers for which sample of a client: the E-step of a mixture."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def responsibilities(losses: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """Share of each model in each sample: exp(prior - loss), normalised over the models.

    With prior_{k;y} = log omega_k - log C_{y;k} this is gamma_{ij;k} of FedRC (Guo et al. 2024).

    Parameters
    ----------
    losses : Tensor, shape (K, n), float64
        Loss of each model on each sample, in nats.
    labels : Tensor, shape (n,), int64
    prior : Tensor, shape (K, C), float64
        Log weight of each model for samples of each class.

    Returns
    -------
    Tensor, shape (K, n), float64; columns add up to 1
    """
    return functional.softmax(prior[:, labels] - losses, dim=0)


def class_sums(responsibilities: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Sum responsibilities (K, n) over the samples of each class: shape (K, C), float64."""
    return responsibilities @ functional.one_hot(labels, num_classes).to(responsibilities.dtype)
