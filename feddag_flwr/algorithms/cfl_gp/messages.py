"""CFL-GP's own message: the gradient of a model on a client's training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Model, message_of, parts_of
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.values import info_of, value_of


@dataclass(frozen=True)
class GradientRequest:
    """A model whose gradient is wanted; nothing is trained.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    parts : dict of str to Weights
        The model.
    objective : str
        Whose gradient.
    """

    action: ClassVar[str] = "query.gradient"
    counted_as: ClassVar[str] = "profile"

    header: RequestHeader
    parts: Model
    objective: str = LocalTrainingConfig.objective

    def encode(self) -> RecordDict:
        """Write the request."""
        return message_of(self.header.info() | {"objective": self.objective}, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> GradientRequest:
        """Read and check the request."""
        info = info_of(content)
        header, parts = RequestHeader.decode(content), parts_of(content, info)
        return cls(header, parts, value_of(info, "objective", str))

    def read_reply(self, content: RecordDict, limits: Limits) -> NDArray[np.float32]:
        """Read and check the gradient of all parameters, shape (d,), in the order of the parts."""
        del limits
        info = info_of(content)
        check_author(info, self.header)
        expected = {name: Weights(weights.floats) for name, weights in self.parts.items()}
        parts = parts_of(content, info, expected)
        return np.concatenate([weights.floats for weights in parts.values()])

    def least_down(self) -> int:
        """Bytes of the model."""
        return weights_nbytes(self.parts.values(), self.header.transport)

    def least_up(self) -> int:
        """Bytes of as much."""
        return self.least_down()


def encode_gradient(
    header: RequestHeader, gradient: Mapping[str, NDArray[np.float32]]
) -> RecordDict:
    """Write the reply: the gradient of each part's parameters."""
    parts = {name: Weights(floats) for name, floats in gradient.items()}
    return message_of(header.signature(), parts)
