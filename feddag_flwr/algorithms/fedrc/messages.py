"""FedRC's own messages: a mixture of models on a client's data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.config import config_info, config_of
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Model, flat, message_of, nested, parts_of
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.train import TrainReply
from feddag_flwr.records.values import RecordError, info_of, value_of

# How far responsibilities may add up to something else than the samples: sums of float64, rounded.
ROUNDING = 1e-6


@dataclass(frozen=True)
class ResponsibilitiesRequest:
    """Models whose responsibilities in the client's training data are wanted; nothing is trained.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    candidates : tuple of dict of str to Weights
        The K models.
    prior : ndarray, shape (K, C), float64
        Log weight of each model for samples of each class, see
        `feddag_flwr.algorithms.fedrc.mixture.responsibilities`.
    objective : str
        Whose losses.
    """

    action: ClassVar[str] = "query.responsibilities"
    counted_as: ClassVar[str] = "candidate_losses"

    header: RequestHeader
    candidates: tuple[Model, ...]
    prior: NDArray[np.float64]
    objective: str = LocalTrainingConfig.objective

    def encode(self) -> RecordDict:
        """Write the request."""
        content = message_of(
            self.header.info() | {"objective": self.objective}, flat(self.candidates)
        )
        _put_prior(content, self.prior)
        return content

    @classmethod
    def decode(cls, content: RecordDict) -> ResponsibilitiesRequest:
        """Read and check the request."""
        info = info_of(content)
        _, candidates = nested(parts_of(content, info))
        header = RequestHeader.decode(content)
        prior = _prior_of(content, len(candidates), len(header.class_names))
        return cls(header, candidates, prior, value_of(info, "objective", str))

    def read_reply(self, content: RecordDict, limits: Limits) -> NDArray[np.float64]:
        """Read and check the samples of each class that each model answers for, shape (K, C)."""
        check_author(info_of(content), self.header)
        shape, most = (len(self.candidates), len(self.header.class_names)), limits.max_samples
        responsibilities = number_of(content, "responsibilities", shape)
        total = responsibilities.sum()
        if responsibilities.min() < 0 or not 1 - ROUNDING <= total <= most * (1 + ROUNDING):
            raise RecordError(f"responsibilities add up to {total}, must be 1..{most} samples")
        return responsibilities

    def least_down(self) -> int:
        """Bytes of all models and of the prior."""
        models = weights_nbytes(flat(self.candidates).values(), self.header.transport)
        return models + self.prior.nbytes

    def least_up(self) -> int:
        """No weights come back."""
        return 0


def encode_responsibilities(
    header: RequestHeader, responsibilities: NDArray[np.float64]
) -> RecordDict:
    """Write the reply: the samples of each class that each model answers for, shape (K, C)."""
    content = message_of(header.signature(), {})
    content.array_records["arrays"]["number.responsibilities"] = Array(responsibilities)
    return content


@dataclass(frozen=True)
class MixtureReply(TrainReply):
    """What one client gives back of all models, parts ``0/primary``, ``0/classifier``, ..

    Attributes
    ----------
    responsibilities : ndarray, shape (K, C), float64
        The samples of each class that each model answers for.
    """

    responsibilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply to a request of this header."""
        content = super().encode(header)
        arrays = content.array_records["arrays"]
        arrays["number.responsibilities"] = Array(self.responsibilities)
        return content


@dataclass(frozen=True)
class MixtureTrainRequest:
    """One round for one client, on all models, each sample weighted by their responsibilities.

    Attributes
    ----------
    header, candidates, prior
        As in `ResponsibilitiesRequest`.
    config : LocalTrainingConfig
        How to train each model.
    """

    action: ClassVar[str] = "train.mixture"
    counted_as: ClassVar[str] = "train"

    header: RequestHeader
    candidates: tuple[Model, ...]
    prior: NDArray[np.float64]
    config: LocalTrainingConfig = PLAIN

    def encode(self) -> RecordDict:
        """Write the request."""
        content = message_of(self.header.info() | config_info(self.config), flat(self.candidates))
        _put_prior(content, self.prior)
        return content

    @classmethod
    def decode(cls, content: RecordDict) -> MixtureTrainRequest:
        """Read and check the request."""
        info = info_of(content)
        _, candidates = nested(parts_of(content, info))
        header = RequestHeader.decode(content)
        prior = _prior_of(content, len(candidates), len(header.class_names))
        return cls(header, candidates, prior, config_of(info))

    def starts(self) -> Model:
        """Return the parts that come back, as training starts from them."""
        return flat(self.candidates)

    def read_reply(self, content: RecordDict, limits: Limits) -> MixtureReply:
        """Read and check the reply."""
        reply = MixtureReply.read(content, self.header, self.starts(), limits)
        shape = (len(self.candidates), len(self.header.class_names))
        responsibilities = number_of(content, "responsibilities", shape)
        total, samples = responsibilities.sum(), reply.samples
        if responsibilities.min() < 0 or abs(total - samples) > ROUNDING * samples:
            raise RecordError(f"responsibilities add up to {total}, the client described {samples}")
        return replace(reply, responsibilities=responsibilities)

    def least_down(self) -> int:
        """Bytes of all models and of the prior."""
        return self.least_up() + self.prior.nbytes

    def least_up(self) -> int:
        """Bytes of all models."""
        return weights_nbytes(flat(self.candidates).values(), self.header.transport)


def _put_prior(content: RecordDict, prior: NDArray[np.float64]) -> None:
    content.array_records["arrays"]["number.prior"] = Array(prior)


def _prior_of(content: RecordDict, count: int, classes: int) -> NDArray[np.float64]:
    """Read the log weights of `count` models, one at least, for each class."""
    if not count:
        raise RecordError("holds no model for a mixture")
    return number_of(content, "prior", (count, classes))
