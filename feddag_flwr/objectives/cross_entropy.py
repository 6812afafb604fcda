"""Cross-entropy of the softmax of the logits, in nats."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class CrossEntropy:
    """-log p(label), with p the softmax of the logits.

    By `smoothing` a share of it is the mean of -log p over all classes (Szegedy et al. 2016).
    """

    smoothing: float = 0.0

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each sample, shape (n,)."""
        return functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self.smoothing
        )

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean over the batch, each sample times its weight."""
        if weights is None:
            return functional.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        return (self.sample_losses(logits, labels) * weights).mean()


CROSS_ENTROPY = CrossEntropy()
