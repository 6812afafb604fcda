"""Phase 5 on a client: the primary and the secondary phase of local training (Eq. 16-20)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.descent import descend
from feddag_flwr.training.local import encode


def diversity_penalty(primary: Tensor, secondary: Tensor) -> Tensor:
    """Mean squared cosine between the two encoders' features (Eq. 42), a scalar in [0, 1]."""
    return functional.cosine_similarity(primary, secondary, dim=1).square().mean()


def frozen_features(job: TrainJob, encoder: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what gives the features of a frozen encoder, from a batch's indices and inputs.

    They are computed once for all samples, unless inputs are changed at random.
    """
    if job.augment is None:
        features = encode(encoder, job.samples)
        return lambda index, _: features[index]
    encoder.eval()

    def encode_batch(_: Tensor, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return encoder(inputs)  # type: ignore[no-any-return]

    return encode_batch


@dataclass(frozen=True)
class PrimaryPhase:
    """Train (P, K) with S frozen (Eq. 16, 17); a single-encoder model is trained whole.

    With `separate_heads`, P and its half of K are trained on their own loss, as if there were no S.
    `diversity` is the weight of the penalty on features alike to those of S (Eq. 42).
    """

    separate_heads: bool = False
    diversity: float = 0.0

    def __call__(self, job: TrainJob, /) -> NDArray[np.float64]:
        """Train the job's model; return the mean loss of each epoch."""
        model = job.model
        penalised = self.diversity > 0
        looks = model.secondary is not None and (penalised or not self.separate_heads)
        frozen = (
            frozen_features(job, model.secondary) if model.secondary is not None and looks else None
        )
        head = model.classifier.primary_head

        def loss(index: Tensor) -> Tensor:
            inputs = job.inputs(index)
            features = model.primary(inputs)
            other = None if frozen is None else frozen(index, inputs)
            logits = head(features) if self.separate_heads else model.classify(features, other)
            value = job.loss(logits, index)
            if other is not None and penalised:
                value = value + self.diversity * diversity_penalty(features, other)
            return value

        trained = head if self.separate_heads else model.classifier
        return descend(job, nn.ModuleList([model.primary, trained]), loss)


@dataclass(frozen=True)
class SecondaryPhase:
    """Train S' with P and K frozen as received (Eq. 19, 20); `ValueError` where there is no S'.

    With `separate_heads`, S' is trained together with its half of K on their own loss, not through
    a K that was trained on another S.
    """

    separate_heads: bool = False

    def __call__(self, job: TrainJob, /) -> NDArray[np.float64]:
        """Train the job's model; return the mean loss of each epoch."""
        model = job.model
        secondary, head = model.secondary, model.classifier.secondary_head
        if secondary is None or head is None:
            raise ValueError("the secondary phase needs a secondary encoder")
        if self.separate_heads:
            return descend(
                job,
                nn.ModuleList([secondary, head]),
                lambda index: job.loss(head(secondary(job.inputs(index))), index),
            )
        frozen = frozen_features(job, model.primary)

        def loss(index: Tensor) -> Tensor:
            inputs = job.inputs(index)
            return job.loss(model.classify(frozen(index, inputs), secondary(inputs)), index)

        model.classifier.requires_grad_(False)
        losses = descend(job, secondary, loss)
        model.classifier.requires_grad_(True)
        return losses
