"""Models judged on a client's test data, and compared on its training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Array, MetricRecord, RecordDict
from numpy.typing import NDArray

from feddag_flwr.metrics import Evaluation
from feddag_flwr.records.arrays import counts_of, number_of
from feddag_flwr.records.parts import Model, flat, message_of, nested, parts_of
from feddag_flwr.records.task import Task, check_author, drifted_of
from feddag_flwr.records.values import MAX_LOSS, RecordError, info_of, shown, value_of

MEASURE_ACTION = "query.measure"


@dataclass(frozen=True)
class EvaluateRequest:
    """A model to evaluate on the client's test data.

    Attributes
    ----------
    task : Task
        Whom it is for.
    parts : dict of str to Weights
        The model.
    adapt_epochs : int
        Epochs of local training that belong to the algorithm and come before it is judged
        (Per-FedAvg); usually 0.
    tune_epochs : int
        Epochs of local fine-tuning after that, judged apart; 0: none.
    """

    task: Task
    parts: Model
    adapt_epochs: int = 0
    tune_epochs: int = 0

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.task.info() | {
            "adapt-epochs": self.adapt_epochs,
            "tune-epochs": self.tune_epochs,
        }
        return message_of(info, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> EvaluateRequest:
        """Read and check the request."""
        info = info_of(content)
        adapt, tune = (value_of(info, key, int) for key in ("adapt-epochs", "tune-epochs"))
        if min(adapt, tune) < 0:
            raise RecordError(f"adapt-epochs, tune-epochs = {adapt}, {tune} must not be negative")
        return cls(Task.decode(content), parts_of(content, info), adapt, tune)


@dataclass(frozen=True)
class EvaluateReply:
    """Counts of one evaluation, and of a second one after fine-tuning where that was asked for.

    Attributes
    ----------
    evaluation, tuned : Evaluation
        On the client's test data.
    drifted : bool
        Whether the client's classes have moved away from the task's reference.
    """

    evaluation: Evaluation
    tuned: Evaluation | None = None
    drifted: bool = False

    def encode(self, task: Task) -> RecordDict:
        """Write the reply."""
        content = message_of(task.signature() | {"drifted": self.drifted}, {})
        put_evaluation(content, "judged", self.evaluation)
        if self.tuned is not None:
            put_evaluation(content, "tuned", self.tuned)
        return content

    @classmethod
    def decode(cls, content: RecordDict, task: Task, *, limit: int, tuned: bool) -> EvaluateReply:
        """Read and check a reply; nobody is believed to have more than `limit` samples."""
        info = info_of(content)
        check_author(info, task)
        found = {
            key: evaluation_of(content, key, len(task.class_names), limit)
            for key in ("judged", "tuned")
        }
        if found["judged"] is None or (found["tuned"] is not None) != tuned:
            raise RecordError("holds another number of evaluations than was asked for")
        return cls(found["judged"], found["tuned"], drifted_of(info, task))


@dataclass(frozen=True)
class MeasureRequest:
    """Models to compare by their losses on the client's training data; nothing is trained."""

    task: Task
    candidates: tuple[Model, ...]

    def encode(self) -> RecordDict:
        """Write the request."""
        return message_of(self.task.info(), flat(self.candidates))

    @classmethod
    def decode(cls, content: RecordDict) -> MeasureRequest:
        """Read and check the request."""
        _, candidates = nested(parts_of(content, info_of(content)))
        if not candidates:
            raise RecordError("holds no model to measure")
        return cls(Task.decode(content), candidates)


@dataclass(frozen=True, eq=False)
class Measurement:
    """How K models do on a client's training data.

    Attributes
    ----------
    losses : ndarray, shape (K,), float64
        Mean cross-entropy a sample, in nats.
    wins : ndarray, shape (K,), int64
        Samples on which a model has the lowest loss; of equal ones the first.
    """

    losses: NDArray[np.float64]
    wins: NDArray[np.int64]

    def encode(self, task: Task) -> RecordDict:
        """Write the reply."""
        content = message_of(task.signature(), {})
        content.array_records["arrays"]["number.losses"] = Array(self.losses)
        content.array_records["arrays"]["wins"] = Array(self.wins)
        return content

    @classmethod
    def decode(cls, content: RecordDict, task: Task, *, count: int, limit: int) -> Measurement:
        """Read and check a reply about `count` models on `limit` samples at most."""
        check_author(info_of(content), task)
        losses = number_of(content, "losses", (count,))
        wins = counts_of(content, "wins", count, limit)
        if not 1 <= wins.sum() <= limit:
            raise RecordError(f"wins add up to {wins.sum()}, must be 1..{limit} samples")
        if losses.min() < 0 or losses.max() > MAX_LOSS:
            raise RecordError(f"losses = {shown(losses.tolist())} are no losses")
        return cls(losses, wins)


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
