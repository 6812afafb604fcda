"""The cluster model F_z(x) = psi([phi1(x; P), phi2(x; S)]; K) of Eq. 2 and 15."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

Part = Literal["primary", "secondary", "classifier"]


class ClusterModel(nn.Module):
    """Primary encoder, an optional secondary one, and a linear classifier on their features.

    Without a secondary encoder this is the ordinary single-encoder model of FedAvg, FedDAG* and
    the profile.

    Parameters
    ----------
    primary : nn.Module
        Encoder P with a ``feature_size``.
    secondary : nn.Module or None
        Encoder S of the same architecture.
    num_classes : int
        Outputs of the classifier K.

    Attributes
    ----------
    feature_size : int
        Features of one encoder.
    """

    def __init__(self, primary: nn.Module, secondary: nn.Module | None, num_classes: int) -> None:
        super().__init__()
        self.feature_size = cast(int, primary.feature_size)
        self.primary = primary
        self.secondary = secondary
        self.classifier = nn.Linear(
            self.feature_size * (1 if secondary is None else 2), num_classes
        )

    def parts(self) -> dict[Part, nn.Module]:
        """Return the parts that this model has, in a fixed order."""
        parts: dict[Part, nn.Module] = {"primary": self.primary}
        if self.secondary is not None:
            parts["secondary"] = self.secondary
        parts["classifier"] = self.classifier
        return parts

    def classify(self, primary: Tensor, secondary: Tensor | None) -> Tensor:
        """Apply K to features (n, f) of P and, where there is one, of S: logits (n, classes)."""
        features = primary if secondary is None else torch.cat([primary, secondary], dim=1)
        logits: Tensor = self.classifier(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to logits (n, classes)."""
        secondary = None if self.secondary is None else self.secondary(images)
        return self.classify(self.primary(images), secondary)
