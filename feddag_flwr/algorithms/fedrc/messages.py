"""FedRC's own messages: a mixture of models on a client's data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np
from flwr.app import Array, RecordDict

from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.records import ClientRequest, Limits, Model, RecordError, RequestHeader, TrainReply
from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.parts import Candidates, flat
from feddag_flwr.records.request import Table

# How far responsibilities may add up to something else than the samples: sums of float64, rounded.
ROUNDING = 1e-6
RESPONSIBILITIES = "number.responsibilities"

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class MixtureRequest(ClientRequest[Reply]):
    """A mixture of K models; each answers for a part of every sample of the client.

    Attributes
    ----------
    prior : ndarray, shape (K, C), float64
        Log weight of each model for samples of each class, see
        `feddag_flwr.algorithms.fedrc.mixture.responsibilities`.
    """

    candidates: Candidates
    prior: Table

    def __post_init__(self) -> None:
        if self.prior.shape != self._shape:
            raise RecordError(f"prior has shape {self.prior.shape}, must have {self._shape}")

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.candidates), len(self.header.class_names)

    def read_responsibilities(self, content: RecordDict, least: float, most: float) -> Table:
        """Read the samples of each class that each model answers for, `least` to `most` in all."""
        responsibilities = number_of(content, "responsibilities", self._shape)
        total, bounds = responsibilities.sum(), (least * (1 - ROUNDING), most * (1 + ROUNDING))
        if responsibilities.min() < 0 or not bounds[0] <= total <= bounds[1]:
            raise RecordError(f"responsibilities add up to {total}, must be {least}..{most}")
        return responsibilities


@dataclass(frozen=True)
class ResponsibilitiesRequest(MixtureRequest[Table]):
    """Asks for the responsibilities of the models, shape (K, C); nothing is trained."""

    action: ClassVar[str] = "query.responsibilities"
    counted_as: ClassVar[str] = "candidate_losses"

    objective: str = LocalTrainingConfig.objective

    def read(self, content: RecordDict, limits: Limits) -> Table:
        """Read the samples of each class that each model answers for."""
        return self.read_responsibilities(content, 1, limits.max_samples)


@dataclass(frozen=True)
class MixtureReply(TrainReply):
    """What one client gives back of all models, parts ``0/primary``, ``0/classifier``, ..

    Attributes
    ----------
    responsibilities : ndarray, shape (K, C), float64
        The samples of each class that each model answers for.
    """

    responsibilities: Table = field(default_factory=lambda: np.zeros((0, 0)))

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply to a request of this header."""
        content = super().encode(header)
        content.array_records["arrays"][RESPONSIBILITIES] = Array(self.responsibilities)
        return content


@dataclass(frozen=True)
class MixtureTrainRequest(MixtureRequest[MixtureReply]):
    """One round for one client, on all models, each sample weighted by their responsibilities."""

    action: ClassVar[str] = "train.mixture"

    config: LocalTrainingConfig = PLAIN

    def starts(self) -> Model:
        """Return the parts that come back, as training starts from them."""
        return flat(self.candidates)

    def read(self, content: RecordDict, limits: Limits) -> MixtureReply:
        """Read what was trained, and responsibilities that add up to the client's samples."""
        reply = TrainReply.read(content, self.header, self.starts(), limits)
        shares = self.read_responsibilities(content, reply.samples, reply.samples)
        return MixtureReply(**vars(reply), responsibilities=shares)
