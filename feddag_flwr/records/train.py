"""One round of local training on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.local_training import PLAIN, LocalTrainingConfig
from feddag_flwr.metrics import Evaluation
from feddag_flwr.records.arrays import number_of
from feddag_flwr.records.evaluation import evaluation_of, put_evaluation
from feddag_flwr.records.header import NO_DRIFT, Drift, RequestHeader, drift_of
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.parts import Model, packed_parts
from feddag_flwr.records.request import ClientRequest
from feddag_flwr.records.transport import EXACT, Packed, as_trained, to_send
from feddag_flwr.records.values import RecordError, info_of, value_of

# What every round of training moves; the parts of a single-encoder model.
TRAINED = ("primary", "classifier")


@dataclass(frozen=True)
class TrainReply:
    """What one client gives back from one round.

    Attributes
    ----------
    samples : int
        Training samples, the weight of the client in Eq. 18 and 21.
    parts : dict of str to Weights
        What was trained, after training.
    starts : mapping of str to Weights
        The same parts as they were received: on the server, as they were before they travelled.
    losses : ndarray, shape (epochs,), float64, or None
        Mean training loss of each local epoch, where the request asks for it.
    moved : dict of str to Packed
        How far training moved the parameters of each part, where the reply said that and not where
        they are now (every ``transport`` but float32).
    carried : dict of str to Weights, or None
        On the client: what the parts travel as, where postprocessors have made that of them; by
        default what the number format makes of them.
    """

    samples: int
    parts: Model
    starts: Mapping[str, Weights]
    received: Evaluation | None = None
    losses: NDArray[np.float64] | None = None
    drifted: Drift = NO_DRIFT
    moved: dict[str, Packed] = field(default_factory=dict)
    carried: Model | None = None

    def update_of(self, part: str) -> NDArray[np.float32]:
        """Return how far training moved the parameters of a part, as the client said."""
        if part in self.moved:
            return self.moved[part].numbers()
        return self.parts[part].floats - self.starts[part].floats

    def update(self) -> NDArray[np.float32]:
        """Return how far training moved the parameters, all parts in one vector."""
        return np.concatenate([self.update_of(part) for part in self.parts])

    def with_parts(self, parts: Model) -> Self:
        """Return the same reply with other parts in the place of those that were trained."""
        return replace(self, parts=parts, moved={})

    def encode(self, header: RequestHeader) -> RecordDict:
        """Write the reply to a request of this header."""
        carried = self.carried
        if carried is None:
            carried = {
                part: to_send(weights, partial(self.starts.__getitem__, part), header.transport)
                for part, weights in self.parts.items()
            }
        arrays = {} if self.losses is None else {"number.losses": self.losses}
        content = header.reply(carried, arrays, samples=self.samples, **self.drifted.values(header))
        if self.received is not None:
            put_evaluation(content, "received", self.received)
        return content

    @classmethod
    def read(
        cls,
        content: RecordDict,
        header: RequestHeader,
        starts: Mapping[str, Weights],
        limits: Limits,
        *,
        epochs: int = 0,
        **own: Any,  # noqa: ANN401
    ) -> Self:
        """Read and check a reply.

        `starts` are the parts that must come back, `epochs` says how many losses must, and `own` is
        what a subclass has read beside all this.
        """
        info = info_of(content)
        samples = value_of(info, "samples", int)
        if not 1 <= samples <= limits.max_samples:
            raise RecordError(f"samples = {samples} is outside 1..{limits.max_samples}")
        packed = packed_parts(content, info, starts)
        parts = {
            name: as_trained(weights, partial(starts.__getitem__, name), header.transport)
            for name, (_, weights) in packed.items()
        }
        for name, weights in parts.items():
            limits.check_weights(name, weights)
        received = evaluation_of(content, "received", header, limits.max_samples)
        if (received is not None) != limits.evaluated:
            raise RecordError(f"evaluation of the model received: {received is not None}")
        losses = number_of(content, "losses", (epochs,)) if epochs else None
        compact = header.transport != EXACT
        moved = {name: update for name, (update, _) in packed.items()} if compact else {}
        drifted = drift_of(info, header)
        return cls(samples, parts, starts, received, losses, drifted, moved, **own)


class PrivateRequest:
    """A request that can ask for private training: a frozen dataclass with a config."""

    config: LocalTrainingConfig

    @property
    def passes(self) -> int:
        """Local trainings that it asks for."""
        return 1

    def with_told(self, samples: int) -> Self:
        """Return the same with the number of samples that the client has told, or 0."""
        request: Any = self  # what is none of a dataclass cannot be typed as one
        asked: Self = replace(request, config=replace(self.config, samples_told=samples))
        return asked


@dataclass(frozen=True)
class TrainRequest(ClientRequest[TrainReply], PrivateRequest):
    """One round of plain training of a model, ``primary`` and ``classifier``, for one client."""

    action: ClassVar[str] = "train"

    parts: Model
    config: LocalTrainingConfig = PLAIN

    def starts(self) -> Model:
        """Return the parts that come back, as training starts from them."""
        return {part: self.parts[part] for part in TRAINED}

    def read(self, content: RecordDict, limits: Limits) -> TrainReply:
        """Read what was trained."""
        epochs = losses_due(self.config)
        return TrainReply.read(content, self.header, self.starts(), limits, epochs=epochs)


def losses_due(config: LocalTrainingConfig) -> int:
    """Return how many losses the reply holds: those of training, or none."""
    return config.num_losses if config.report_losses else 0
