"""Models judged on a client's test data, and compared on its training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Array, MetricRecord, RecordDict
from numpy.typing import NDArray

from feddag_flwr.metrics import Evaluation
from feddag_flwr.records.arrays import counts_of, number_of
from feddag_flwr.records.header import RequestHeader, check_author, drifted_of
from feddag_flwr.records.parts import Model, flat, message_of, nested, parts_of
from feddag_flwr.records.values import MAX_LOSS, RecordError, info_of, shown, value_of

CANDIDATE_LOSSES_ACTION = "query.candidate-losses"


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
    """

    header: RequestHeader
    parts: Model
    adapt_epochs: int = 0
    personalisation_epochs: int = 0

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.header.info() | {
            "adapt-epochs": self.adapt_epochs,
            "personalisation-epochs": self.personalisation_epochs,
        }
        return message_of(info, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> EvaluateRequest:
        """Read and check the request."""
        info = info_of(content)
        adapt, tune = (
            value_of(info, key, int) for key in ("adapt-epochs", "personalisation-epochs")
        )
        if min(adapt, tune) < 0:
            raise RecordError(f"adapt-epochs, tune-epochs = {adapt}, {tune} must not be negative")
        return cls(RequestHeader.decode(content), parts_of(content, info), adapt, tune)


@dataclass(frozen=True)
class EvaluateReply:
    """Counts of one evaluation, and of a second one after fine-tuning where that was asked for.

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
            key: evaluation_of(content, key, len(header.class_names), limit)
            for key in ("judged", "personalised")
        }
        if found["judged"] is None or (found["personalised"] is not None) != personalised:
            raise RecordError("holds another number of evaluations than was asked for")
        return cls(found["judged"], found["personalised"], drifted_of(info, header))


@dataclass(frozen=True)
class CandidateLossesRequest:
    """Models to compare by their losses on the client's training data; nothing is trained."""

    header: RequestHeader
    candidates: tuple[Model, ...]

    def encode(self) -> RecordDict:
        """Write the request."""
        return message_of(self.header.info(), flat(self.candidates))

    @classmethod
    def decode(cls, content: RecordDict) -> CandidateLossesRequest:
        """Read and check the request."""
        _, candidates = nested(parts_of(content, info_of(content)))
        if not candidates:
            raise RecordError("holds no model to measure")
        return cls(RequestHeader.decode(content), candidates)


@dataclass(frozen=True, eq=False)
class CandidateLosses:
    """How K models do on a client's training data.

    Attributes
    ----------
    losses : ndarray, shape (K,), float64
        Mean cross-entropy a sample, in nats.
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


def put_evaluation(content: RecordDict, key: str, evaluation: Evaluation) -> None:
    """Add an evaluation to a message, under a name."""
    arrays = content.array_records["arrays"]
    arrays[f"{key}.hits"] = Array(evaluation.hits)
    arrays[f"{key}.totals"] = Array(evaluation.totals)
    content[f"{key}-metrics"] = MetricRecord({"loss-sum": evaluation.loss_sum})


def evaluation_of(content: RecordDict, key: str, num_classes: int, limit: int) -> Evaluation | None:
    """Read and check one evaluation on `limit` samples at most; None where there is none."""
    metrics = content.get(f"{key}-metrics")
    if metrics is None:
        return None
    hits, totals = (
        counts_of(content, f"{key}.{what}", num_classes, limit) for what in ("hits", "totals")
    )
    samples = int(totals.sum())
    if samples > limit:
        raise RecordError(f"totals add up to {samples}, more than {limit}")
    if (hits > totals).any():
        raise RecordError("more hits than samples in a class")
    loss = metrics.get("loss-sum") if isinstance(metrics, MetricRecord) else None
    if not isinstance(loss, float) or not 0 <= loss <= MAX_LOSS * max(1, samples):
        raise RecordError(f"loss-sum = {shown(loss)} is no loss")
    return Evaluation(hits, totals, loss)
