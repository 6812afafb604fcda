"""Models judged on a client's test data, and compared on its training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.metrics import MAX_LOSS, Evaluation
from feddag_flwr.records.arrays import counts_of, number_of
from feddag_flwr.records.config import config_info, config_of
from feddag_flwr.records.evaluation import evaluation_of, put_evaluation
from feddag_flwr.records.header import RequestHeader, check_author, drifted_of
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Model, flat, message_of, nested, parts_of
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.values import RecordError, info_of, shown, value_of


@dataclass(frozen=True)
class EvaluateRequest:
    """A model to evaluate on the client's test data.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    parts : dict of str to Weights
        The model.
    adapt_epochs : int
        Epochs of local training that belong to the algorithm and come before it is judged
        (Per-FedAvg); usually 0.
    personalisation_epochs : int
        Epochs of local fine-tuning after that, judged apart; 0: none.
    config : LocalTrainingConfig
        How to train in both, but for the number of epochs.
    """

    action: ClassVar[str] = "evaluate"
    counted_as: ClassVar[str] = "evaluate"

    header: RequestHeader
    parts: Model
    adapt_epochs: int = 0
    personalisation_epochs: int = 0
    config: LocalTrainingConfig = PLAIN

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.header.info() | config_info(self.config)
        info["adapt-epochs"] = self.adapt_epochs
        info["personalisation-epochs"] = self.personalisation_epochs
        return message_of(info, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> Self:
        """Read and check the request."""
        info = info_of(content)
        adapt, tune = (
            value_of(info, key, int) for key in ("adapt-epochs", "personalisation-epochs")
        )
        if min(adapt, tune) < 0:
            raise RecordError(
                f"adapt-epochs, personalisation-epochs = {adapt}, {tune} must not be negative"
            )
        header, parts = RequestHeader.decode(content), parts_of(content, info)
        return cls(header, parts, adapt, tune, config_of(info))

    def read_reply(self, content: RecordDict, limits: Limits) -> EvaluateReply:
        """Read and check the reply."""
        return EvaluateReply.decode(
            content,
            self.header,
            limit=limits.max_samples,
            personalised=self.personalisation_epochs > 0,
        )

    def least_down(self) -> int:
        """Bytes of the model."""
        return weights_nbytes(self.parts.values(), self.header.transport)

    def least_up(self) -> int:
        """No weights come back."""
        return 0


@dataclass(frozen=True)
class EvaluateReply:
    """One evaluation, and a second one after fine-tuning where that was asked for.

    Attributes
    ----------
    evaluation, personalised : Evaluation
        On the client's test data.
    drifted : bool
        Whether the client's classes have moved away from the header's reference.
    """

    evaluation: Evaluation
    personalised: Evaluation | None = None
    drifted: bool = False

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply."""
        content = message_of(header.signature() | {"drifted": self.drifted}, {})
        put_evaluation(content, "judged", self.evaluation)
        if self.personalised is not None:
            put_evaluation(content, "personalised", self.personalised)
        return content

    @classmethod
    def decode(
        cls, content: RecordDict, header: RequestHeader, *, limit: int, personalised: bool
    ) -> EvaluateReply:
        """Read and check a reply; nobody is believed to have more than `limit` samples."""
        info = info_of(content)
        check_author(info, header)
        found = {
            key: evaluation_of(content, key, header, limit) for key in ("judged", "personalised")
        }
        if found["judged"] is None or (found["personalised"] is not None) != personalised:
            raise RecordError("holds another number of evaluations than was asked for")
        return cls(found["judged"], found["personalised"], drifted_of(info, header))


@dataclass(frozen=True)
class CandidateLossesRequest:
    """Models to compare by their losses on the client's training data; nothing is trained.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    candidates : tuple of dict of str to Weights
        The models.
    objective : str
        Whose losses.
    """

    action: ClassVar[str] = "query.candidate_losses"
    counted_as: ClassVar[str] = "candidate_losses"

    header: RequestHeader
    candidates: tuple[Model, ...]
    objective: str = LocalTrainingConfig.objective

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.header.info() | {"objective": self.objective}
        return message_of(info, flat(self.candidates))

    @classmethod
    def decode(cls, content: RecordDict) -> CandidateLossesRequest:
        """Read and check the request."""
        info = info_of(content)
        _, candidates = nested(parts_of(content, info))
        if not candidates:
            raise RecordError("holds no model to measure")
        return cls(RequestHeader.decode(content), candidates, value_of(info, "objective", str))

    def read_reply(self, content: RecordDict, limits: Limits) -> CandidateLosses:
        """Read and check the reply."""
        count = len(self.candidates)
        return CandidateLosses.decode(content, self.header, count=count, limit=limits.max_samples)

    def least_down(self) -> int:
        """Bytes of all models."""
        return weights_nbytes(flat(self.candidates).values(), self.header.transport)

    def least_up(self) -> int:
        """No weights come back."""
        return 0


@dataclass(frozen=True, eq=False)
class CandidateLosses:
    """How K models do on a client's training data.

    Attributes
    ----------
    losses : ndarray, shape (K,), float64
        Mean loss a sample, by the objective asked for.
    lowest : ndarray, shape (K,), int64
        Samples on which a model has the lowest loss; of equal ones the first.
    """

    losses: NDArray[np.float64]
    lowest: NDArray[np.int64]

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply."""
        content = message_of(header.signature(), {})
        content.array_records["arrays"]["number.losses"] = Array(self.losses)
        content.array_records["arrays"]["lowest"] = Array(self.lowest)
        return content

    @classmethod
    def decode(
        cls, content: RecordDict, header: RequestHeader, *, count: int, limit: int
    ) -> CandidateLosses:
        """Read and check a reply about `count` models on `limit` samples at most."""
        check_author(info_of(content), header)
        losses = number_of(content, "losses", (count,))
        lowest = counts_of(content, "lowest", count, limit)
        if not 1 <= lowest.sum() <= limit:
            raise RecordError(f"lowest add up to {lowest.sum()}, must be 1..{limit} samples")
        if losses.min() < 0 or losses.max() > MAX_LOSS:
            raise RecordError(f"losses = {shown(losses.tolist())} are no losses")
        return cls(losses, lowest)
