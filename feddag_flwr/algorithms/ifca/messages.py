"""IFCA's own message: train the one of several models that fits best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flwr.app import RecordDict

from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.records import ClientRequest, Limits, Model, RecordError, RequestHeader, TrainReply
from feddag_flwr.records.parts import Candidates
from feddag_flwr.records.train import TRAINED, losses_due
from feddag_flwr.records.values import info_of, value_of


@dataclass(frozen=True)
class ChoiceReply(TrainReply):
    """What one client gives back of the model that it chose, the candidate of number `choice`."""

    choice: int = 0

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply to a request of this header."""
        content = super().encode(header)
        content.config_records["info"]["choice"] = self.choice
        return content


@dataclass(frozen=True)
class ChoiceTrainRequest(ClientRequest[ChoiceReply]):
    """One round for one client, on the candidate of lowest mean loss on its training data."""

    action: ClassVar[str] = "train.choice"

    candidates: Candidates
    config: LocalTrainingConfig = PLAIN

    def starts(self, choice: int = 0) -> Model:
        """Return the parts that come back, as training starts from them."""
        return {part: self.candidates[choice][part] for part in TRAINED}

    def read(self, content: RecordDict, limits: Limits) -> ChoiceReply:
        """Read which candidate was chosen, and what was trained."""
        choice = value_of(info_of(content), "choice", int)
        if not 0 <= choice < len(self.candidates):
            raise RecordError(f"choice = {choice} is none of {len(self.candidates)} candidates")
        starts, epochs = self.starts(choice), losses_due(self.config)
        return ChoiceReply.read(content, self.header, starts, limits, epochs=epochs, choice=choice)
