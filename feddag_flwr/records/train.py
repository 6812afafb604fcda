"""One round of local training on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Array, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.metrics import Evaluation
from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.evaluate import evaluation_of, put_evaluation
from feddag_flwr.records.header import RequestHeader, check_author, drifted_of
from feddag_flwr.records.mixture import check_responsibilities, prior_of, put_prior
from feddag_flwr.records.parts import Model, flat, message_of, nested, packed_parts, parts_of
from feddag_flwr.records.transport import EXACT, Packed, as_trained, to_send
from feddag_flwr.records.values import RecordError, info_of, name_list, value_of

PHASES = ("primary", "secondary", "fomaml", "mixture")


@dataclass(frozen=True)
class LocalTrainingConfig:
    """What an algorithm may ask of local training beyond plain SGD.

    Attributes
    ----------
    proximal : float
        Weight mu of the term mu/2 |w - w_received|^2 (FedProx, FedSoft).
    inner_rate : float
        Rate alpha of the inner step of the phase ``fomaml`` (Per-FedAvg).
    losses : bool
        The reply's numbers hold ``losses``: the mean training loss of each local epoch, in nats.
    separate_heads : bool
        Each half of the classifier is trained with its own encoder; so the secondary phase, too,
        gives the classifier back.
    """

    proximal: float = 0.0
    inner_rate: float = 0.0
    losses: bool = False
    separate_heads: bool = False

    def info(self) -> dict[str, Any]:
        """Return the values for the record ``info``."""
        return {config_key(name): value for name, value in asdict(self).items()}

    @classmethod
    def decode(cls, info: Mapping[str, Any]) -> LocalTrainingConfig:
        """Read and check the values."""
        values = {}
        for each in fields(cls):
            key = config_key(each.name)
            value = value_of(info, key, type(each.default))
            if not 0 <= value < np.inf:
                raise RecordError(f"{key} = {value} must be 0 or more, and finite")
            values[each.name] = value
        return cls(**values)


@dataclass(frozen=True)
class TrainRequest:
    """One round for one client.

    Attributes
    ----------
    header : RequestHeader
        Whom it is for.
    parts : dict of str to Weights
        The cluster model: ``primary``, ``classifier``, perhaps ``secondary``; and ``shared``, the
        S' that a source cluster trains, where the secondary phase is due and S' is not the
        cluster's own S. With candidates perhaps none.
    phases : tuple of str
        Which of `PHASES` to run.
    config : LocalTrainingConfig
        How to train.
    candidates : tuple of dict of str to Weights
        Models of which the client takes the one with the lowest loss on its training data; the
        reply says which (IFCA). The phase ``mixture`` trains them all (FedRC); the reply says which
        has the largest share of the client.
    prior : ndarray, shape (K, C), float64, or None
        For the phase ``mixture``: log weight of each model for samples of each class, see
        `feddag_flwr.training.mixture.responsibilities`.
    """

    header: RequestHeader
    parts: Model
    phases: tuple[str, ...]
    config: LocalTrainingConfig = LocalTrainingConfig()
    candidates: tuple[Model, ...] = ()
    prior: NDArray[np.float64] | None = None

    def encode(self) -> RecordDict:
        """Write the request."""
        parts = self.parts | flat(self.candidates)
        info = self.header.info() | self.config.info()
        content = message_of(info | {"phases": list(self.phases)}, parts)
        if self.prior is not None:
            put_prior(content, self.prior)
        return content

    @classmethod
    def decode(cls, content: RecordDict) -> TrainRequest:
        """Read and check the request."""
        info = info_of(content)
        phases = name_list(info, "phases")
        if not set(phases) <= set(PHASES):
            raise RecordError(f"phases must be among {PHASES}, got {phases}")
        parts, candidates = nested(parts_of(content, info))
        header = RequestHeader.decode(content)
        prior = None
        if "mixture" in phases:
            prior = prior_of(content, len(candidates), len(header.class_names))
        return cls(header, parts, phases, LocalTrainingConfig.decode(info), candidates, prior)

    def start_of(self, part: str, choice: int | None) -> Weights:
        """Return the weights that a part's training started from.

        The parts that the phase ``mixture`` trains are named ``0/primary``, ``0/classifier``, ..
        Where S' is the cluster's own S it does not travel twice.
        """
        if part == "shared" and "shared" not in self.parts:
            part = "secondary"
        index, slash, rest = part.partition("/")
        if slash:
            return self.candidates[int(index)][rest]
        if choice is not None and part in self.candidates[choice]:
            return self.candidates[choice][part]
        return self.parts[part]


@dataclass(frozen=True)
class TrainReply:
    """What one client gives back from one round.

    Attributes
    ----------
    samples : int
        Training samples, the weight of the client in Eq. 18 and 21.
    parts : dict of str to Weights
        ``primary`` and ``classifier`` after the primary or meta phase, ``shared`` (and
        ``classifier``, where it is trained by separate_heads) after the secondary; primary and classifier
        of every candidate, numbered, after the phase ``mixture``.
    received : Evaluation or None
        The model as received on the client's test data, where it is wanted.
    choice : int or None
        The candidate that the client took, where there were some.
    numbers : dict of str to ndarray of float64
        What else the config asked for; ``responsibilities`` after the phase ``mixture``.
    moved : dict of str to Packed
        How far training moved the parameters of each part, where the reply said that and not where
        they are now (every ``transport`` but float32).
    drifted : bool
        Whether the client's classes have moved away from the header's reference.
    """

    samples: int
    parts: Model
    received: Evaluation | None
    choice: int | None = None
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    moved: dict[str, Packed] = field(default_factory=dict)
    drifted: bool = False

    def update_of(self, part: str, request: TrainRequest) -> NDArray[np.float32]:
        """Return how far training moved the parameters of a part, as the client said."""
        if part in self.moved:
            return self.moved[part].numbers()
        return self.parts[part].floats - request.start_of(part, self.choice).floats

    def encode(self, request: TrainRequest) -> RecordDict:
        """Write the reply to a request."""
        transport = request.header.transport
        info: dict[str, Any] = request.header.signature() | {
            "samples": self.samples,
            "drifted": self.drifted,
        }
        if self.choice is not None:
            info["choice"] = self.choice
        parts = {
            part: to_send(weights, partial(request.start_of, part, self.choice), transport)
            for part, weights in self.parts.items()
        }
        content = message_of(info, parts)
        for key, values in self.numbers.items():
            content.array_records["arrays"][f"number.{key}"] = Array(values)
        if self.received is not None:
            put_evaluation(content, "received", self.received)
        return content

    @classmethod
    def decode(
        cls,
        content: RecordDict,
        request: TrainRequest,
        *,
        expected: Mapping[str, Weights],
        numbers: Mapping[str, tuple[int, ...]],
        limit: int,
        evaluated: bool = True,
    ) -> TrainReply:
        """Read and check a reply.

        Parameters
        ----------
        content : RecordDict
            The reply.
        request : TrainRequest
            What was asked of whom.
        expected : mapping of str to Weights
            The parts that must come back, as weights of the right shape.
        numbers : mapping of str to tuple of int
            The numbers that must come back, with their shapes.
        limit : int
            Largest believable number of samples (setting ``max-client-samples``). A client's data
            may have grown since it described itself.
        evaluated : bool
            Whether the model as received must have been evaluated.

        Raises
        ------
        RecordError
            With the reason.
        """
        info, transport = info_of(content), request.header.transport
        check_author(info, request.header)
        samples = value_of(info, "samples", int)
        if not 1 <= samples <= limit:
            raise RecordError(f"samples = {samples} is outside 1..{limit}")
        choice = _choice(info, len(request.candidates))
        packed = packed_parts(content, info, expected)
        parts = {
            name: as_trained(weights, partial(request.start_of, name, choice), transport)
            for name, (_, weights) in packed.items()
        }
        for name in [name for name, weights in parts.items() if not weights.is_finite]:
            raise RecordError(f"{name}: the update is too long")
        received = evaluation_of(content, "received", len(request.header.class_names), limit)
        if (received is not None) != evaluated:
            raise RecordError(f"evaluation of the model received: {received is not None}")
        found = {key: number_of(content, key, shape) for key, shape in numbers.items()}
        if "mixture" in request.phases:
            check_responsibilities(found["responsibilities"], samples)
        return cls(
            samples,
            parts,
            received,
            choice,
            found,
            {} if transport == EXACT else {name: each for name, (each, _) in packed.items()},
            drifted_of(info, request.header),
        )


def config_key(name: str) -> str:
    """Name of a config's value in the record ``info``."""
    return f"training-{name.replace('_', '-')}"


def _choice(info: Mapping[str, Any], count: int) -> int | None:
    if not count:
        return None
    choice: int = value_of(info, "choice", int)
    if not 0 <= choice < count:
        raise RecordError(f"choice = {choice} is none of {count} candidates")
    return choice
