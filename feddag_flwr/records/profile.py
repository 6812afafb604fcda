"""Phase 1 on the wire: profiles, and a client's vectors over all its data (PACFL)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.profile import Profile, subspace_size
from feddag_flwr.records.arrays import array_of, counts_of
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.parts import Model, message_of, parts_of
from feddag_flwr.records.transport import as_trained, to_send
from feddag_flwr.records.values import RecordError, info_of, value_of

PROFILE_ACTION = "train.profile"
VECTORS_ACTION = "query.vectors"

# How far products of vectors may be from those of an orthonormal basis, rounded to float32 (some
# 1e-6): half of what principal angles refuse, so that no client's vectors can stop the server.
ORTHONORMAL = 5e-4


@dataclass(frozen=True)
class ProfileRequest:
    """Phase 1: the common start theta0 and the seed of the common coordinates."""

    header: RequestHeader
    start: Model
    coordinate_seed: int

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.header.info() | {"coordinate-seed": self.coordinate_seed}
        return message_of(info, self.start)

    @classmethod
    def decode(cls, content: RecordDict) -> ProfileRequest:
        """Read and check the request."""
        info = info_of(content)
        seed = value_of(info, "coordinate-seed", int)
        return cls(RequestHeader.decode(content), parts_of(content, info), seed)


def encode_profile(header: RequestHeader, profile: Profile, start: Weights) -> RecordDict:
    """Write the reply to a `ProfileRequest` whose encoder was `start` as received."""
    encoder = to_send(profile.encoder, lambda: start, header.transport)
    content = message_of(header.signature(), {"encoder": encoder})
    arrays = content.array_records["arrays"]
    arrays["update"] = Array(profile.update)
    arrays["vectors"] = Array(profile.vectors)
    arrays["vector-classes"] = Array(profile.vector_classes)
    arrays["counts"] = Array(profile.counts)
    return content


def decode_profile(
    content: RecordDict,
    header: RequestHeader,
    *,
    encoder: Weights,
    coordinates: int,
    limit: int,
    subspace: float,
) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    content : RecordDict
        The reply.
    header : RequestHeader
        What was asked of whom.
    encoder : Weights
        The encoder that the request was made of.
    coordinates : int
        Length of the sparse update.
    limit : int
        Largest believable number of samples.
    subspace : float
        The setting ``subspace-size``: bounds the vectors of a class.

    Raises
    ------
    RecordError
        With the reason.
    """
    info = info_of(content)
    check_author(info, header)
    counts = counts_of(content, "counts", len(header.class_names), limit)
    if not 1 <= counts.sum() <= limit:
        raise RecordError(f"counts add up to {counts.sum()}, must be 1..{limit}")
    update = array_of(content, "update", np.float32, (coordinates,))
    if not update.any():
        raise RecordError("update is zero everywhere: the angle of Eq. 3 does not exist")
    vectors, classes = _subspace(content, header, counts, subspace)
    moved = parts_of(content, info, {"encoder": encoder})["encoder"]
    weights = as_trained(moved, lambda: encoder, header.transport)
    if not weights.is_finite:
        raise RecordError("encoder: the update is too long")
    return Profile(update, vectors, classes, counts, weights)


def _subspace(
    content: RecordDict, header: RequestHeader, counts: NDArray[np.int64], subspace: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    features = math.prod(header.sample_shape)  # no more vectors than that can be orthogonal
    sizes = [min(subspace_size(subspace, count), features) if count else 0 for count in counts]
    classes = array_of(content, "vector-classes", np.int64, (None,), most=sum(sizes))
    vectors = array_of(content, "vectors", np.float32, (len(classes), features))
    if classes.size and (classes.min() < 0 or classes.max() >= len(counts)):
        raise RecordError(f"vector-classes must lie in 0..{len(counts) - 1}")
    if (np.diff(classes) < 0).any():
        raise RecordError("vector-classes must be in ascending order")
    for label in np.unique(classes):
        rows = vectors[classes == label].astype(np.float64)
        if len(rows) > sizes[label]:
            raise RecordError(f"{len(rows)} vectors of class {label} with {counts[label]} samples")
        _check_orthonormal(rows, f"the vectors of class {label}")
    return vectors, classes


def _check_orthonormal(rows: NDArray[np.float64], what: str) -> None:
    if np.abs(rows @ rows.T - np.eye(len(rows))).max() > ORTHONORMAL:
        raise RecordError(f"{what} are not orthonormal")


def encode_vectors(header: RequestHeader, vectors: NDArray[np.float32]) -> RecordDict:
    """Write a client's leading singular vectors over all its data, one a row (PACFL)."""
    content = message_of(header.signature(), {})
    content.array_records["arrays"]["vectors"] = Array(vectors)
    return content


def decode_vectors(content: RecordDict, header: RequestHeader, *, size: int) -> NDArray[np.float32]:
    """Read and check what `encode_vectors` wrote: 1 to `size` orthonormal rows."""
    check_author(info_of(content), header)
    features = math.prod(header.sample_shape)
    size = min(size, features)
    vectors = array_of(content, "vectors", np.float32, (None, features), most=size * features)
    if not 1 <= len(vectors) <= size:
        raise RecordError(f"{len(vectors)} vectors, must be 1 to {size}")
    _check_orthonormal(vectors.astype(np.float64), "the vectors")
    return vectors
