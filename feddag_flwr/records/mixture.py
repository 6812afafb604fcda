"""Shares of models in a client's training data on the wire, for mixtures of models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.parts import Model, flat, message_of, nested, parts_of
from feddag_flwr.records.values import RecordError, info_of

RESPONSIBILITIES_ACTION = "query.responsibilities"

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
        `feddag_flwr.training.mixture.responsibilities`.
    """

    header: RequestHeader
    candidates: tuple[Model, ...]
    prior: NDArray[np.float64]

    def encode(self) -> RecordDict:
        """Write the request."""
        content = message_of(self.header.info(), flat(self.candidates))
        put_prior(content, self.prior)
        return content

    @classmethod
    def decode(cls, content: RecordDict) -> ResponsibilitiesRequest:
        """Read and check the request."""
        _, candidates = nested(parts_of(content, info_of(content)))
        header = RequestHeader.decode(content)
        return cls(header, candidates, prior_of(content, len(candidates), len(header.class_names)))


def encode_responsibilities(
    header: RequestHeader, responsibilities: NDArray[np.float64]
) -> RecordDict:
    """Write the reply: the samples of each class that each model answers for, shape (K, C)."""
    content = message_of(header.signature(), {})
    content.array_records["arrays"]["number.responsibilities"] = Array(responsibilities)
    return content


def decode_responsibilities(
    content: RecordDict, header: RequestHeader, *, count: int, limit: int
) -> NDArray[np.float64]:
    """Read and check a reply about `count` models on `limit` samples at most."""
    check_author(info_of(content), header)
    responsibilities = number_of(content, "responsibilities", (count, len(header.class_names)))
    total = responsibilities.sum()
    if responsibilities.min() < 0 or not 1 - ROUNDING <= total <= limit * (1 + ROUNDING):
        raise RecordError(f"responsibilities add up to {total}, must be 1..{limit} samples")
    return responsibilities


def check_responsibilities(responsibilities: NDArray[np.float64], samples: int) -> None:
    """Refuse responsibilities that are negative or do not add up to the client's samples."""
    if responsibilities.min() < 0 or abs(responsibilities.sum() - samples) > ROUNDING * samples:
        raise RecordError(
            f"responsibilities add up to {responsibilities.sum()}, the client described {samples}"
        )


def put_prior(content: RecordDict, prior: NDArray[np.float64]) -> None:
    """Add log weights of models to a request."""
    content.array_records["arrays"]["number.prior"] = Array(prior)


def prior_of(content: RecordDict, count: int, classes: int) -> NDArray[np.float64]:
    """Read the log weights of `count` models, one at least, for each class."""
    if not count:
        raise RecordError("holds no model for a mixture")
    return number_of(content, "prior", (count, classes))
