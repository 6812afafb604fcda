"""IFCA's own message: train the one of several models that fits best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flwr.app import RecordDict

from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.records.config import config_info, config_of
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Model, flat, message_of, nested, parts_of
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.train import TRAINED, TrainReply, losses_due
from feddag_flwr.records.values import RecordError, info_of, value_of


@dataclass(frozen=True)
class ChoiceReply(TrainReply):
    """What one client gives back of the model that it chose.

    Attributes
    ----------
    choice : int
        Which candidate that is.
    """

    choice: int = 0

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply to a request of this header."""
        content = super().encode(header)
        content.config_records["info"]["choice"] = self.choice
        return content


@dataclass(frozen=True)
class ChoiceTrainRequest:
    """One round for one client, on the candidate of lowest mean loss on its training data.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    candidates : tuple of dict of str to Weights
        The K models, all of one architecture.
    config : LocalTrainingConfig
        How to train.
    """

    action: ClassVar[str] = "train.choice"
    counted_as: ClassVar[str] = "train"

    header: RequestHeader
    candidates: tuple[Model, ...]
    config: LocalTrainingConfig = PLAIN

    def encode(self) -> RecordDict:
        """Write the request."""
        return message_of(self.header.info() | config_info(self.config), flat(self.candidates))

    @classmethod
    def decode(cls, content: RecordDict) -> ChoiceTrainRequest:
        """Read and check the request."""
        info = info_of(content)
        _, candidates = nested(parts_of(content, info))
        if not candidates:
            raise RecordError("holds no model to choose")
        return cls(RequestHeader.decode(content), candidates, config_of(info))

    def starts(self, choice: int) -> Model:
        """Return the parts that come back, as training starts from them."""
        return {part: self.candidates[choice][part] for part in TRAINED}

    def read_reply(self, content: RecordDict, limits: Limits) -> ChoiceReply:
        """Read and check the reply."""
        info = info_of(content)
        check_author(info, self.header)
        choice = value_of(info, "choice", int)
        if not 0 <= choice < len(self.candidates):
            raise RecordError(f"choice = {choice} is none of {len(self.candidates)} candidates")
        return ChoiceReply.read(
            content,
            self.header,
            self.starts(choice),
            limits,
            epochs=losses_due(self.config),
            choice=choice,
        )

    def least_down(self) -> int:
        """Bytes of all candidates."""
        return weights_nbytes(flat(self.candidates).values(), self.header.transport)

    def least_up(self) -> int:
        """Bytes of one model."""
        return weights_nbytes(self.starts(0).values(), self.header.transport)
