"""PACFL's own message: the leading singular vectors of a client's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.records import ClientRequest, Limits, RecordError
from feddag_flwr.records.arrays import array_of, check_orthonormal
from feddag_flwr.subspace_view import view_features


@dataclass(frozen=True)
class VectorsRequest(ClientRequest[NDArray[np.float32]]):
    """Asks for a client's leading left singular vectors over all its data, `most` at most."""

    action: ClassVar[str] = "query.vectors"
    counted_as: ClassVar[str] = "profile"

    most: int

    def read(self, content: RecordDict, limits: Limits) -> NDArray[np.float32]:
        """Read 1 to `most` orthonormal rows."""
        features = view_features(limits.view, self.header.modality, self.header.spec)
        most = min(self.most, features)
        vectors = array_of(content, "vectors", np.float32, (None, features), most=most * features)
        if not 1 <= len(vectors) <= most:
            raise RecordError(f"{len(vectors)} vectors, must be 1 to {most}")
        check_orthonormal(vectors, "the vectors")
        return vectors
