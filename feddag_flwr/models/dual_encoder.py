"""The cluster model F_z(x) = psi([phi1(x; P), phi2(x; S)]; K) of Eq. 2 and 15."""

from typing import Literal, cast

from torch import Tensor, nn
from torch.nn import init

Part = Literal["primary", "secondary", "classifier"]


class Classifier(nn.Module):
    """K of Eq. 2: linear in the features of P and, where there is one (`dual`), of S.

    Its two halves are layers of their own, so that each can be trained without the other; the bias
    is in that on P.
    """

    def __init__(self, feature_size: int, num_classes: int, *, dual: bool) -> None:
        super().__init__()
        self.primary_head = nn.Linear(feature_size, num_classes)
        self.secondary_head = nn.Linear(feature_size, num_classes, bias=False) if dual else None

    def forward(self, primary: Tensor, secondary: Tensor | None) -> Tensor:
        """Map features (n, f) of P and, where there is one, of S to logits (n, classes)."""
        logits: Tensor = self.primary_head(primary)
        if self.secondary_head is not None:
            logits = logits + self.secondary_head(secondary)
        return logits

    def zero_secondary_head(self) -> None:
        """Set the half on S to zero: until it is trained, S has no say."""
        if self.secondary_head is None:
            raise ValueError("the classifier has no half on a secondary encoder")
        init.zeros_(self.secondary_head.weight)


class ClusterModel(nn.Module):
    """Primary encoder P, an optional secondary one S, and a linear classifier on their features.

    Both are of one architecture with a ``feature_size``. Without S this is the ordinary
    single-encoder model of FedAvg, FedDAG* and the profile.
    """

    def __init__(self, primary: nn.Module, secondary: nn.Module | None, num_classes: int) -> None:
        super().__init__()
        self.feature_size = cast(int, primary.feature_size)
        self.primary = primary
        self.secondary = secondary
        self.classifier = Classifier(self.feature_size, num_classes, dual=secondary is not None)

    def parts(self) -> dict[Part, nn.Module]:
        """Return the parts that this model has, in a fixed order."""
        parts: dict[Part, nn.Module] = {"primary": self.primary}
        if self.secondary is not None:
            parts["secondary"] = self.secondary
        parts["classifier"] = self.classifier
        return parts

    def classify(self, primary: Tensor, secondary: Tensor | None) -> Tensor:
        """Apply K to features (n, f) of P and, where there is one, of S: logits (n, classes)."""
        logits: Tensor = self.classifier(primary, secondary)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width) to logits (n, classes)."""
        secondary = None if self.secondary is None else self.secondary(images)
        return self.classify(self.primary(images), secondary)
