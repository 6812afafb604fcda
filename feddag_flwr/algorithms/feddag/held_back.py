"""Clients say on held-back data how well models suit them that training for a check has made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.clustering.refinement import Gains
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.records import (
    Model,
    TrainReply,
    ValidationLosses,
    ValidationLossesRequest,
)
from feddag_flwr.similarity.matrices import FloatArray

# A model that clients are asked about: what some of them have trained for a check, on average,
# without the one who is asked; or the model of a cluster as it is now, or one of those added.
Choice = tuple[str, ...] | int

_KINDS = ("floats", "buffers", "integers")


class _Total(NamedTuple):
    """Weights of some clients added up, each times its samples."""

    samples: int
    vectors: dict[str, dict[str, NDArray[np.float64]]]


class TrainedMeans:
    """Means over clients of what they have trained from one model, with or without one of them.

    Each counts by its samples (Eq. 18). `parts` are those that are averaged.
    """

    def __init__(self, replies: Mapping[str, TrainReply], parts: Sequence[str]) -> None:
        self.replies = {
            name: reply for name, reply in replies.items() if set(parts) <= reply.parts.keys()
        }
        self.parts = parts
        self._totals: dict[tuple[str, ...], _Total] = {}

    def updates(self, names: Sequence[str], part: str) -> NDArray[np.float32]:
        """Return how training moved a part, a client a row."""
        return np.stack([self.replies[name].update_of(part) for name in names])

    def mean(self, members: tuple[str, ...], without: str = "") -> Model:
        """Average the parts over `members`, but for one of them; empty where nobody is left."""
        total = self._total(members)
        reply = self.replies[without] if without in members else None
        samples = total.samples - (reply.samples if reply else 0)
        if samples <= 0:
            return {}
        model: Model = {}
        for part in self.parts:
            vectors = {
                kind: (
                    vector - reply.samples * getattr(reply.parts[part], kind) if reply else vector
                )
                / samples
                for kind, vector in total.vectors[part].items()
            }
            model[part] = Weights(
                vectors["floats"].astype(np.float32),
                vectors["buffers"].astype(np.float32),
                np.rint(vectors["integers"]).astype(np.int64),
            )
        return model

    def _total(self, members: tuple[str, ...]) -> _Total:
        if members not in self._totals:
            replies = [self.replies[name] for name in members]
            vectors = {
                part: {kind: _sum(replies, part, kind) for kind in _KINDS} for part in self.parts
            }
            self._totals[members] = _Total(sum(reply.samples for reply in replies), vectors)
        return self._totals[members]


def _sum(replies: Sequence[TrainReply], part: str, kind: str) -> NDArray[np.float64]:
    total = np.zeros(getattr(replies[0].parts[part], kind).shape, dtype=np.float64)
    for reply in replies:
        total += reply.samples * getattr(reply.parts[part], kind).astype(np.float64)
    return total


@dataclass(frozen=True, eq=False)
class Answer:
    """What one client says of the models that it was asked about; `places` finds each."""

    losses: ValidationLosses
    places: dict[Choice, int]

    def loss(self, choice: Choice) -> float:
        """Held-back loss under a model."""
        return float(self.losses.losses[self.places[choice]])

    def gain(self, now: Choice, then: Choice) -> tuple[float, float]:
        """How much lower the loss would be under another model, and the variance of that."""
        one, other = self.places[now], self.places[then]
        gain = self.losses.losses[one] - self.losses.losses[other]
        return float(gain), self.losses.variance_of_difference(one, other)


class Panel:
    """Asks clients about models, each about its own; who holds nothing back says nothing.

    `base` is what clients have trained from; of it is all that they have not trained.
    """

    def __init__(
        self, context: FederationContext, server_round: int, base: Model, trained: TrainedMeans
    ) -> None:
        self._context = context
        self._server_round = server_round
        self.base = base
        self.trained = trained
        self.models = list(context.state.models)
        settled = sorted(context.state.assignments.keys() - context.drifted)
        self.names = context.connected(settled)
        self.founders = {
            cluster: tuple(n for n in settled if self._trained_in(n, cluster))
            for cluster in range(context.state.num_clusters)
        }

    def _trained_in(self, name: str, cluster: int) -> bool:
        here = self._context.state.assignments[name] == cluster
        return here and name in self.trained.replies

    def own(self, name: str) -> Choice:
        """Return a client's own model: its cluster's, without what it has trained itself."""
        cluster = self._context.state.assignments[name]
        members = self.founders[cluster]
        return members if set(members) - {name} else cluster

    @property
    def trains_encoder(self) -> bool:
        """Whether clusters have encoders of their own."""
        return "primary" in self.trained.parts

    def add(self, model: Model) -> int:
        """Take in one more model that clients may be asked about."""
        self.models.append(model)
        return len(self.models) - 1

    def ask(
        self, choices: Mapping[str, Collection[Choice]], *, trained_on: bool = False
    ) -> dict[str, Answer]:
        """Ask each client about its choices, on held-back data or on what it trains on.

        About means of nobody but itself, nobody is asked.
        """
        places: dict[str, dict[Choice, int]] = {}
        objective = self._context.settings.training.objective

        def requests() -> Iterator[ValidationLossesRequest]:
            for name, of_client in choices.items():
                models = {each: self._model(name, each) for each in dict.fromkeys(of_client)}
                models = {each: model for each, model in models.items() if model}
                if models:
                    places[name] = {each: place for place, each in enumerate(models)}
                    candidates, common = self._parted(list(models.values()))
                    header = self._context.header(name, self._server_round)
                    yield ValidationLossesRequest(header, candidates, common, objective, trained_on)

        replies: dict[str, ValidationLosses] = self._context.ask(requests())
        return {
            name: Answer(losses, places[name]) for name, losses in replies.items() if losses.samples
        }

    def _model(self, name: str, choice: Choice) -> Model:
        if isinstance(choice, int):
            return self.models[choice]
        mean = self.trained.mean(choice, name)
        return self.base | mean if mean else {}

    def _parted(self, models: Sequence[Model]) -> tuple[tuple[Model, ...], Model]:
        """Part models into what is each one's own, and what they have in common with the base.

        What is trained is always a candidate's own.
        """
        base = self.base
        candidates = tuple(
            {
                part: weights
                for part, weights in model.items()
                if part in self.trained.parts or not weights.equals(base[part])
            }
            for model in models
        )
        lacking = {part for part in base if any(part not in each for each in candidates)}
        return candidates, {part: base[part] for part in base if part in lacking}


def losses_under(
    answers: Mapping[str, Answer], pairs: Mapping[str, tuple[Choice, Choice]]
) -> FloatArray:
    """Return what those clients lose under two models (2, n) who have judged both."""
    both = [
        (answers[name].loss(now), answers[name].loss(then))
        for name, (now, then) in pairs.items()
        if now in answers[name].places and then in answers[name].places
    ]
    return np.array(both, dtype=np.float64).reshape(-1, 2).T


def gains_under(answers: Mapping[str, Answer], pairs: Mapping[str, tuple[Choice, Choice]]) -> Gains:
    """Return how much less clients lose under another model, of those who have judged both."""
    told = [
        (*answers[name].gain(now, then), float(answers[name].losses.freedom))
        for name, (now, then) in pairs.items()
        if now in answers[name].places and then in answers[name].places
    ]
    return Gains(*np.array(told, dtype=np.float64).reshape(-1, 3).T)
