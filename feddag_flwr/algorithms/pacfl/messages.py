"""PACFL's own message: singular vectors of all of a client's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.modalities import load_modality
from feddag_flwr.records.arrays import array_of
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.orthonormal import check_orthonormal
from feddag_flwr.records.parts import message_of
from feddag_flwr.records.values import RecordError, info_of


@dataclass(frozen=True)
class VectorsRequest:
    """Asks for a client's leading left singular vectors over all its data, whatever the class.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for, and all that travels.
    most : int
        Most vectors that the client may send.
    """

    action: ClassVar[str] = "query.vectors"
    counted_as: ClassVar[str] = "profile"

    header: RequestHeader
    most: int

    def encode(self) -> RecordDict:
        """Write the request."""
        return self.header.encode()

    def read_reply(self, content: RecordDict, limits: Limits) -> NDArray[np.float32]:
        """Read and check 1 to `most` orthonormal rows."""
        del limits
        check_author(info_of(content), self.header)
        features = load_modality(self.header.modality).subspace_features(self.header.spec)
        most = min(self.most, features)
        vectors = array_of(content, "vectors", np.float32, (None, features), most=most * features)
        if not 1 <= len(vectors) <= most:
            raise RecordError(f"{len(vectors)} vectors, must be 1 to {most}")
        check_orthonormal(vectors, "the vectors")
        return vectors

    def least_down(self) -> int:
        """No arrays travel."""
        return 0

    def least_up(self) -> int:
        """No weights come back."""
        return 0


def encode_vectors(header: RequestHeader, vectors: NDArray[np.float32]) -> RecordDict:
    """Write the reply: the vectors, one a row."""
    content = message_of(header.signature(), {})
    content.array_records["arrays"]["vectors"] = Array(vectors)
    return content
