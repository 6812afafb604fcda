"""FedDAG's own messages: profiles (phase 1), and training and fine-tuning of dual encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.modalities import load_modality
from feddag_flwr.profile import Profile, sparse_size, subspace_size
from feddag_flwr.records.arrays import array_of, counts_of
from feddag_flwr.records.config import config_info, config_of, number_at_least_0
from feddag_flwr.records.evaluate import EvaluateRequest
from feddag_flwr.records.header import RequestHeader, check_author
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.orthonormal import check_orthonormal
from feddag_flwr.records.parts import Model, message_of, parts_of
from feddag_flwr.records.sizes import weights_nbytes
from feddag_flwr.records.train import TRAINED, TrainReply, losses_due
from feddag_flwr.records.transport import as_trained, to_send
from feddag_flwr.records.values import RecordError, info_of, name_list, value_of

PHASES = ("primary", "secondary")


@dataclass(frozen=True)
class ProfileRequest:
    """Phase 1: the common start theta0, the warm-up, and the common coordinates.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    start : dict of str to Weights
        theta0, a single-encoder model.
    coordinate_seed : int
        By which every client draws the same coordinates.
    gradient_fraction : float
        Share of the coordinates of the update that comes back.
    warmup_rounds : int
        How often the warm-up trains for the config's epochs.
    config : LocalTrainingConfig
        How to train in each.
    """

    action: ClassVar[str] = "train.profile"
    counted_as: ClassVar[str] = "profile"

    header: RequestHeader
    start: Model
    coordinate_seed: int
    gradient_fraction: float
    warmup_rounds: int = 1
    config: LocalTrainingConfig = PLAIN

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.header.info() | config_info(self.config)
        info["coordinate-seed"] = self.coordinate_seed
        info["gradient-fraction"] = self.gradient_fraction
        info["warmup-rounds"] = self.warmup_rounds
        return message_of(info, self.start)

    @classmethod
    def decode(cls, content: RecordDict) -> ProfileRequest:
        """Read and check the request."""
        info = info_of(content)
        seed, rounds = (value_of(info, key, int) for key in ("coordinate-seed", "warmup-rounds"))
        fraction = value_of(info, "gradient-fraction", float)
        if not 0 < fraction <= 1:
            raise RecordError(f"gradient-fraction = {fraction} must be above 0, 1 at most")
        if rounds < 1:
            raise RecordError(f"warmup-rounds = {rounds} must be 1 or more")
        header, start = RequestHeader.decode(content), parts_of(content, info)
        return cls(header, start, seed, fraction, rounds, config_of(info))

    def read_reply(self, content: RecordDict, limits: Limits) -> Profile:
        """Read and check a profile.

        Raises
        ------
        RecordError
            With the reason.
        """
        info, header, encoder = info_of(content), self.header, self.start["primary"]
        check_author(info, header)
        counts = counts_of(content, "counts", len(header.class_names), limits.max_samples)
        if not 1 <= counts.sum() <= limits.max_samples:
            raise RecordError(f"counts add up to {counts.sum()}, must be 1..{limits.max_samples}")
        update = array_of(content, "update", np.float32, (self.coordinates(),))
        if not update.any():
            raise RecordError("update is zero everywhere: the angle of Eq. 3 does not exist")
        vectors, classes = _subspace(content, header, counts, limits.subspace_size)
        moved = parts_of(content, info, {"encoder": encoder})["encoder"]
        weights = as_trained(moved, lambda: encoder, header.transport)
        if not weights.is_finite:
            raise RecordError("encoder: the update is too long")
        limits.check_variances("primary", weights)
        return Profile(update, vectors, classes, counts, weights)

    def coordinates(self) -> int:
        """Return the length of the sparse update."""
        total = sum(weights.floats.size for weights in self.start.values())
        return sparse_size(total, self.gradient_fraction)

    def least_down(self) -> int:
        """Bytes of theta0."""
        return weights_nbytes(self.start.values(), self.header.transport)

    def least_up(self) -> int:
        """Bytes of the encoder."""
        return weights_nbytes([self.start["primary"]], self.header.transport)


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


def _subspace(
    content: RecordDict, header: RequestHeader, counts: NDArray[np.int64], subspace: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    features = load_modality(header.modality).subspace_features(
        header.spec
    )  # no more vectors than that can be orthogonal
    sizes = [min(subspace_size(subspace, count), features) if count else 0 for count in counts]
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
class DualTrainRequest:
    """One round of phase 5 for one client.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    parts : dict of str to Weights
        The cluster model: ``primary``, ``classifier``, perhaps ``secondary``; and ``transfer``, the
        S' that a source cluster trains, where the secondary phase is due and S' is not the
        cluster's own S.
    phases : tuple of str
        Which of `PHASES` to run; all start from the weights as received (the ruling on Eq. 19).
    config : LocalTrainingConfig
        How to train in each.
    separate_heads : bool
        Each half of the classifier is trained with its own encoder; so the secondary phase, too,
        gives the classifier back.
    diversity : float
        Weight of the diversity regulariser (Eq. 42).
    """

    action: ClassVar[str] = "train.dual"
    counted_as: ClassVar[str] = "train"

    header: RequestHeader
    parts: Model
    phases: tuple[str, ...]
    config: LocalTrainingConfig = PLAIN
    separate_heads: bool = False
    diversity: float = 0.0

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.header.info() | config_info(self.config)
        info["phases"] = list(self.phases)
        info["separate-heads"] = self.separate_heads
        info["diversity"] = self.diversity
        return message_of(info, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> DualTrainRequest:
        """Read and check the request."""
        info = info_of(content)
        phases = name_list(info, "phases")
        if not set(phases) <= set(PHASES):
            raise RecordError(f"phases must be among {PHASES}, got {phases}")
        parts, header = parts_of(content, info), RequestHeader.decode(content)
        heads, diversity = (
            value_of(info, "separate-heads", bool),
            number_at_least_0(info, "diversity"),
        )
        return cls(header, parts, phases, config_of(info), heads, diversity)

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

    def read_reply(self, content: RecordDict, limits: Limits) -> TrainReply:
        """Read and check the reply."""
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

    def least_up(self) -> int:
        """Bytes of what is trained."""
        return weights_nbytes(self.starts().values(), self.header.transport)


@dataclass(frozen=True)
class DualEvaluateRequest(EvaluateRequest):
    """A dual-encoder model to fine-tune and to evaluate on the client's test data.

    Attributes
    ----------
    separate_heads, diversity
        Of fine-tuning, as in `DualTrainRequest`; S and its half of the classifier stay.
    """

    action: ClassVar[str] = "evaluate.dual"

    separate_heads: bool = False
    diversity: float = 0.0

    def encode(self) -> RecordDict:
        """Write the request."""
        content = super().encode()
        content.config_records["info"]["separate-heads"] = self.separate_heads
        content.config_records["info"]["diversity"] = self.diversity
        return content

    @classmethod
    def decode(cls, content: RecordDict) -> Self:
        """Read and check the request."""
        info, plain = info_of(content), EvaluateRequest.decode(content)
        return cls(
            plain.header,
            plain.parts,
            plain.adapt_epochs,
            plain.personalisation_epochs,
            plain.config,
            value_of(info, "separate-heads", bool),
            number_at_least_0(info, "diversity"),
        )
