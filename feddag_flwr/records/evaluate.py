"""Models judged on a client's test data, and compared on its training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.metrics import MAX_LOSS, Evaluation
from feddag_flwr.records.arrays import counts_of, number_of
from feddag_flwr.records.evaluation import evaluation_of, put_evaluation
from feddag_flwr.records.header import NO_DRIFT, Drift, RequestHeader, drift_of
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Candidates, Model
from feddag_flwr.records.request import ClientRequest
from feddag_flwr.records.values import RecordError, info_of, shown


@dataclass(frozen=True)
class EvaluateReply:
    """One evaluation on the client's test data, and a second one after fine-tuning if asked for.

    `drifted` says what of the client's data has moved away from the header's references.
    """

    evaluation: Evaluation
    personalised: Evaluation | None = None
    drifted: Drift = NO_DRIFT

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply."""
        content = header.reply(**self.drifted.values(header))
        put_evaluation(content, "judged", self.evaluation)
        if self.personalised is not None:
            put_evaluation(content, "personalised", self.personalised)
        return content


@dataclass(frozen=True)
class EvaluateRequest(ClientRequest[EvaluateReply]):
    """A model to evaluate on the client's test data, perhaps after training as `config` says.

    Attributes
    ----------
    adapt_epochs : int
        Epochs of local training that belong to the algorithm and come before it is judged
        (Per-FedAvg); usually 0.
    personalisation_epochs : int
        Epochs of local fine-tuning after that, judged apart; 0: none.
    held_back : bool
        It is judged on what the client holds back from training, not on its test data.
    """

    action: ClassVar[str] = "evaluate"
    counted_as: ClassVar[str] = "evaluate"

    parts: Model
    adapt_epochs: int = 0
    personalisation_epochs: int = 0
    config: LocalTrainingConfig = PLAIN
    held_back: bool = False

    def read(self, content: RecordDict, limits: Limits) -> EvaluateReply:
        """Read as many evaluations as were asked for."""
        judged, personalised = (
            evaluation_of(content, scope, self.header, limits.max_samples)
            for scope in ("judged", "personalised")
        )
        wanted = self.personalisation_epochs > 0
        if judged is None or (personalised is not None) != wanted:
            raise RecordError("holds another number of evaluations than was asked for")
        return EvaluateReply(judged, personalised, drift_of(info_of(content), self.header))


@dataclass(frozen=True, eq=False)
class CandidateLosses:
    """How K models do on a client's training data.

    Mean loss of a sample by the objective asked for, shape (K,), float64; and samples on which a
    model has the lowest loss, of equal ones the first, shape (K,), int64.
    """

    losses: NDArray[np.float64]
    lowest: NDArray[np.int64]

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply."""
        return header.reply(arrays={"number.losses": self.losses, "lowest": self.lowest})


@dataclass(frozen=True)
class CandidateLossesRequest(ClientRequest[CandidateLosses]):
    """Models to compare by an objective on the client's training data; nothing is trained."""

    action: ClassVar[str] = "query.candidate_losses"
    counted_as: ClassVar[str] = "candidate_losses"

    candidates: Candidates
    objective: str = LocalTrainingConfig.objective

    def read(self, content: RecordDict, limits: Limits) -> CandidateLosses:
        """Read a loss and a number of samples for each candidate."""
        count, limit = len(self.candidates), limits.max_samples
        losses = number_of(content, "losses", (count,))
        lowest = counts_of(content, "lowest", count, limit)
        if not 1 <= lowest.sum() <= limit:
            raise RecordError(f"lowest add up to {lowest.sum()}, must be 1..{limit} samples")
        if losses.min() < 0 or losses.max() > MAX_LOSS:
            raise RecordError(f"losses = {shown(losses.tolist())} are no losses")
        return CandidateLosses(losses, lowest)
