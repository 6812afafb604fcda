"""The gradient of a model on a client's training data, on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.parts import Model, message_of, parts_of
from feddag_flwr.records.values import info_of

GRADIENT_ACTION = "query.gradient"


@dataclass(frozen=True)
class GradientRequest:
    """A model whose gradient is wanted; nothing is trained."""

    header: RequestHeader
    parts: Model

    def encode(self) -> RecordDict:
        """Write the request."""
        return message_of(self.header.info(), self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> GradientRequest:
        """Read and check the request."""
        return cls(RequestHeader.decode(content), parts_of(content, info_of(content)))


def encode_gradient(
    header: RequestHeader, gradient: Mapping[str, NDArray[np.float32]]
) -> RecordDict:
    """Write the reply: the gradient of each part's parameters."""
    parts = {name: Weights(floats) for name, floats in gradient.items()}
    return message_of(header.signature(), parts)


def decode_gradient(content: RecordDict, request: GradientRequest) -> NDArray[np.float32]:
    """Read and check a reply.

    Returns
    -------
    ndarray, shape (d,), float32
        The gradient of all parameters, in the order of the request's parts.

    Raises
    ------
    RecordError
        With the reason.
    """
    info = info_of(content)
    check_author(info, request.header)
    expected = {name: Weights(weights.floats) for name, weights in request.parts.items()}
    parts = parts_of(content, info, expected)
    return np.concatenate([weights.floats for weights in parts.values()])
