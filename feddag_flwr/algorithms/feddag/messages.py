"""FedDAG's own messages: profiles (phase 1), and training and fine-tuning of dual encoders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.profile import (
    DIRECTIONS,
    LeadingDirections,
    Profile,
    sparse_size,
    subspace_size,
)
from feddag_flwr.records import (
    ClientRequest,
    EvaluateRequest,
    Limits,
    Model,
    RecordError,
    RequestHeader,
    TrainReply,
)
from feddag_flwr.records.arrays import (
    ORTHONORMAL,
    array_of,
    check_orthonormal,
    counts_of,
    number_of,
)
from feddag_flwr.records.parts import parts_of
from feddag_flwr.records.request import AT_LEAST_1, Must
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.train import TRAINED, PrivateRequest, losses_due
from feddag_flwr.records.transport import as_trained, to_send
from feddag_flwr.records.values import info_of, shown
from feddag_flwr.similarity.looks import looks_size
from feddag_flwr.subspace_view import view_features

PHASES = ("primary", "secondary")


@dataclass(frozen=True)
class ProfileRequest(ClientRequest[Profile]):
    """Phase 1: the common start theta0, the warm-up, and the common coordinates.

    Attributes
    ----------
    coordinate_seed : int
        By which every client draws the same coordinates.
    gradient_fraction : float
        Share of the coordinates of the update that comes back.
    warmup_rounds : int
        How often the warm-up trains for the config's epochs.
    """

    action: ClassVar[str] = "train.profile"
    counted_as: ClassVar[str] = "profile"

    start: Model
    coordinate_seed: int
    gradient_fraction: Annotated[float, Must("above 0, 1 at most", lambda share: 0 < share <= 1)]
    warmup_rounds: Annotated[int, AT_LEAST_1] = 1
    config: LocalTrainingConfig = PLAIN

    def starts(self) -> Model:
        """Return the encoder, which comes back."""
        return {"encoder": self.start["primary"]}

    def read(self, content: RecordDict, limits: Limits) -> Profile:
        """Read and check a profile."""
        counts = _counts(content, self.header, limits)
        total = sum(weights.floats.size for weights in self.start.values())
        coordinates = sparse_size(total, self.gradient_fraction)
        update = array_of(content, "update", np.float32, (coordinates,))
        if not update.any():
            raise RecordError("update is zero everywhere: the angle of Eq. 3 does not exist")
        features = view_features(limits.view, self.header.modality, self.header.spec)
        vectors, classes = _subspace(content, features, counts, limits)
        moved = parts_of(content, info_of(content), self.starts())["encoder"]
        encoder = as_trained(moved, lambda: self.start["primary"], self.header.transport)
        limits.check_weights("primary", encoder)
        return Profile(update, vectors, classes, counts, encoder)


@dataclass(frozen=True)
class FullProfileRequest(ProfileRequest):
    """The same, and more.

    Attributes
    ----------
    directions : bool
        Whether the leading directions of all samples are wanted: some clients may have no labels.
    looks : bool
        Whether how the classes look is wanted, for the client to be told when they change.
    """

    action: ClassVar[str] = "train.full_profile"

    directions: bool = False
    looks: bool = False

    def read(self, content: RecordDict, limits: Limits) -> Profile:
        """Read and check a profile with what else was asked for."""
        profile = super().read(content, limits)
        if self.directions:
            profile = replace(profile, directions=_directions(content, self.header, limits))
        if self.looks:
            size = looks_size(len(self.header.class_names))
            profile = replace(profile, looks=number_of(content, "looks", (size,)))
        return profile


@dataclass(frozen=True)
class DirectionsRequest(ClientRequest[LeadingDirections]):
    """Asks a client without labels for the leading directions of its samples."""

    action: ClassVar[str] = "query.directions"
    counted_as: ClassVar[str] = "profile"

    def read(self, content: RecordDict, limits: Limits) -> LeadingDirections:
        """Read and check them; one at least."""
        directions = _directions(content, self.header, limits)
        if not len(directions.shares):
            raise RecordError("there are no directions to place it by (min-subspace-samples)")
        return directions


@dataclass(frozen=True)
class PrivateProfileRequest(ClientRequest[Profile]):
    """Asks for a profile that is differentially private: noisy counts and subspaces alone.

    Attributes
    ----------
    dimensions : int
        Most values of a vector: samples are projected to so many (setting ``profile-dimensions``).
    """

    action: ClassVar[str] = "query.private_profile"
    counted_as: ClassVar[str] = "profile"

    dimensions: Annotated[int, AT_LEAST_1]

    def read(self, content: RecordDict, limits: Limits) -> Profile:
        """Read and check a profile, without update and encoder."""
        counts = _counts(content, self.header, limits)
        features = view_features(limits.view, self.header.modality, self.header.spec)
        vectors, classes = _subspace(content, min(features, self.dimensions), counts, limits)
        nothing = np.zeros(0, dtype=np.float32)
        return Profile(nothing, vectors, classes, counts, Weights(nothing))


def encode_profile(header: RequestHeader, profile: Profile, start: Weights) -> RecordDict:
    """Write the reply to a `ProfileRequest` whose encoder was `start` as received."""
    more = {} if profile.directions is None else _arrays_of(profile.directions)
    if profile.looks is not None:
        more["number.looks"] = profile.looks
    return header.reply(
        {"encoder": to_send(profile.encoder, lambda: start, header.transport)},
        {
            "update": profile.update,
            "vectors": profile.vectors,
            "vector-classes": profile.vector_classes,
            "counts": profile.counts,
            **more,
        },
    )


def private_arrays(profile: Profile) -> dict[str, NDArray[Any]]:
    """Return what the reply to a `PrivateProfileRequest` holds."""
    return {
        "vectors": profile.vectors,
        "vector-classes": profile.vector_classes,
        "counts": profile.counts,
    }


def encode_directions(header: RequestHeader, directions: LeadingDirections) -> RecordDict:
    """Write the reply to a `DirectionsRequest`."""
    return header.reply({}, _arrays_of(directions))


def _arrays_of(directions: LeadingDirections) -> dict[str, NDArray[Any]]:
    return {"directions": directions.vectors, "number.shares": directions.shares}


def _directions(content: RecordDict, header: RequestHeader, limits: Limits) -> LeadingDirections:
    features = view_features(limits.view, header.modality, header.spec)
    most = min(DIRECTIONS, features)
    shares = array_of(content, "number.shares", np.float64, (None,), most=most)
    if len(shares) > most:
        raise RecordError(f"{len(shares)} directions, {most} at most were asked for")
    vectors = array_of(content, "directions", np.float32, (len(shares), features))
    if shares.size and (shares.min() <= 0 or shares.sum() > 1 + ORTHONORMAL):
        raise RecordError(f"shares = {shown(shares.tolist())} must be above 0 and add up to 1")
    if len(vectors):
        check_orthonormal(vectors, "the directions")
    return LeadingDirections(vectors, shares)


def _counts(content: RecordDict, header: RequestHeader, limits: Limits) -> NDArray[np.int64]:
    counts = counts_of(content, "counts", len(header.class_names), limits.max_samples)
    if not 1 <= counts.sum() <= limits.max_samples:
        raise RecordError(f"counts add up to {counts.sum()}, must be 1..{limits.max_samples}")
    return counts


def _subspace(
    content: RecordDict, features: int, counts: NDArray[np.int64], limits: Limits
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    # No more vectors than a sample has values can be orthogonal.
    most = [subspace_size(limits.subspace_size, count) for count in counts]
    sizes = [min(size, features) if count else 0 for size, count in zip(most, counts, strict=True)]
    classes = array_of(content, "vector-classes", np.int64, (None,), most=sum(sizes))
    vectors = array_of(content, "vectors", np.float32, (len(classes), features))
    if classes.size and (classes.min() < 0 or classes.max() >= len(counts)):
        raise RecordError(f"vector-classes must lie in 0..{len(counts) - 1}")
    if (np.diff(classes) < 0).any():
        raise RecordError("vector-classes must be in ascending order")
    for label in np.unique(classes):
        rows = vectors[classes == label]
        if len(rows) > sizes[label]:
            raise RecordError(f"{len(rows)} vectors of class {label} with {counts[label]} samples")
        check_orthonormal(rows, f"the vectors of class {label}")
    return vectors, classes


@dataclass(frozen=True)
class DualTrainRequest(ClientRequest[TrainReply], PrivateRequest):
    """One round of phase 5 for one client.

    Attributes
    ----------
    parts : dict of str to Weights
        The cluster model: ``primary``, ``classifier``, perhaps ``secondary``; and ``transfer``, the
        S' that a source cluster trains, where the secondary phase is due and S' is not the
        cluster's own S.
    phases : tuple of str
        Which of `PHASES` to run; all start from the weights as received (the ruling on Eq. 19).
    separate_heads : bool
        Each half of the classifier is trained with its own encoder; so the secondary phase, too,
        gives the classifier back.
    """

    action: ClassVar[str] = "train.dual"

    parts: Model
    phases: Annotated[tuple[str, ...], Must(f"among {PHASES}", set(PHASES).issuperset)]
    config: LocalTrainingConfig = PLAIN
    separate_heads: bool = False
    diversity: float = 0.0

    @property
    def passes(self) -> int:
        """Local trainings that it asks for."""
        return len(self.phases)

    def transfer_start(self) -> Weights:
        """Return S', which does not travel twice where it is the cluster's own S."""
        return self.parts["transfer"] if "transfer" in self.parts else self.parts["secondary"]

    def starts(self) -> Model:
        """Return the parts that come back, as training starts from them."""
        starts: Model = {}
        if "primary" in self.phases:
            starts |= {part: self.parts[part] for part in TRAINED}
        if "secondary" in self.phases:
            starts["transfer"] = self.transfer_start()
            if self.separate_heads:
                starts["classifier"] = self.parts["classifier"]
        return starts

    def read(self, content: RecordDict, limits: Limits) -> TrainReply:
        """Read what was trained."""
        epochs = losses_due(self.config) if "primary" in self.phases else 0
        return TrainReply.read(content, self.header, self.starts(), limits, epochs=epochs)

    def least_down(self) -> int:
        """Bytes of the model, and of S' where it is needed and not S itself."""
        needed = dict(self.parts)
        transfer, own = needed.get("transfer"), needed.get("secondary")
        same = transfer is not None and own is not None and transfer.equals(own)
        if "secondary" not in self.phases or same:
            needed.pop("transfer", None)
        return weights_nbytes(needed.values(), self.header.transport)


@dataclass(frozen=True)
class DualEvaluateRequest(EvaluateRequest):
    """A dual-encoder model to fine-tune and to evaluate on the client's test data.

    `separate_heads` and `diversity` are of fine-tuning, as in `DualTrainRequest`; S and its half of
    the classifier stay.
    """

    action: ClassVar[str] = "evaluate.dual"

    separate_heads: bool = False
    diversity: float = 0.0
