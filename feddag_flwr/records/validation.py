"""Models compared on what a client holds back from training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.metrics import MAX_LOSS
from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.header import RequestHeader
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Candidates, Model
from feddag_flwr.records.request import ClientRequest
from feddag_flwr.records.values import RecordError, info_of, shown, value_of

# How far a covariance may be from what it must be: sums of float64, rounded.
ROUNDING: Final = 1e-6

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ValidationLosses:
    """How K models do on the data that a client holds back.

    Each class held back counts alike, as in balanced accuracy: else models would be told apart by
    how many samples of a class they have been trained on.

    Attributes
    ----------
    samples : int
        Held back; 0: nothing is, and there are no losses.
    freedom : int
        Samples less classes: degrees of freedom of `covariance`.
    losses : ndarray, shape (K,)
        Mean over classes of the mean loss in a class.
    covariance : ndarray, shape (K, K)
        Covariance of the estimates `losses`, from how losses vary within classes. The difference of
        two models has the variance c_ii + c_jj - 2 c_ij.
    """

    samples: int
    freedom: int
    losses: FloatArray
    covariance: FloatArray

    @classmethod
    def of(cls, losses: FloatArray, labels: NDArray[np.integer[Any]]) -> ValidationLosses:
        """Sum up losses (K, n) of samples with labels (n,)."""
        classes, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        count = losses.shape[1]
        weights = 1.0 / (len(classes) * sizes[places])
        means = np.stack([losses[:, places == place].mean(axis=1) for place in range(len(classes))])
        spread = losses - means.T[:, places]
        freedom = count - len(classes)
        pooled = spread @ spread.T / max(1, freedom)
        covariance = pooled * np.square(weights).sum()
        return cls(count, freedom, means.mean(axis=0), covariance)

    @classmethod
    def nothing(cls, models: int) -> ValidationLosses:
        """Return what a client says of so many models that holds nothing back."""
        return cls(0, 0, np.zeros(models), np.zeros((models, models)))

    def variance_of_difference(self, one: int, other: int) -> float:
        """Variance of the estimated difference in loss of two models, 0 or more."""
        table = self.covariance
        return max(0.0, float(table[one, one] + table[other, other] - 2.0 * table[one, other]))

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply."""
        arrays = {"number.losses": self.losses, "number.covariance": self.covariance}
        return header.reply(arrays=arrays, samples=self.samples, freedom=self.freedom)


@dataclass(frozen=True)
class ValidationLossesRequest(ClientRequest[ValidationLosses]):
    """Models to compare by an objective on what the client holds back; nothing is trained.

    Attributes
    ----------
    common : dict of str to Weights
        Parts that candidates have which do not bring their own.
    trained_on : bool
        Whether it is the training data on which they are to be compared.
    """

    action: ClassVar[str] = "query.validation_losses"
    counted_as: ClassVar[str] = "candidate_losses"

    candidates: Candidates
    common: Model
    objective: str = LocalTrainingConfig.objective
    trained_on: bool = False

    def models(self) -> list[Model]:
        """Return the candidates with all parts."""
        return [self.common | candidate for candidate in self.candidates]

    def read(self, content: RecordDict, limits: Limits) -> ValidationLosses:
        """Read losses of each candidate and how they vary."""
        count, info = len(self.candidates), info_of(content)
        samples, freedom = value_of(info, "samples", int), value_of(info, "freedom", int)
        if not 0 <= samples <= limits.max_samples:
            raise RecordError(f"samples = {samples} is outside 0..{limits.max_samples}")
        if not 0 <= freedom <= max(0, samples - 1):
            raise RecordError(f"freedom = {freedom} is outside 0..{max(0, samples - 1)}")
        losses = number_of(content, "losses", (count,))
        if losses.min() < 0 or losses.max() > MAX_LOSS:
            raise RecordError(f"losses = {shown(losses.tolist())} are no losses")
        covariance = number_of(content, "covariance", (count, count))
        _check_covariance(covariance)
        return ValidationLosses(samples, freedom, losses, covariance)


def _check_covariance(table: FloatArray) -> None:
    """Refuse what no losses can have as their covariance: variances bound all else."""
    variances = np.diag(table)
    bound = np.sqrt(np.outer(variances.clip(min=0), variances.clip(min=0)))
    within = (np.abs(table) <= bound * (1 + ROUNDING)).all()
    if variances.min() < 0 or variances.max() > MAX_LOSS**2 or not within:
        raise RecordError("covariance: is none")
    if not np.allclose(table, table.T, rtol=ROUNDING, atol=0.0):
        raise RecordError("covariance: is not symmetric")
