"""What an algorithm decides: clusters, what a round asks of whom, what becomes of replies."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import (
    CandidateLosses,
    CandidateLossesRequest,
    EvaluateRequest,
    Model,
    Request,
    TrainReply,
    TrainRequest,
)
from feddag_flwr.records.train import TRAINED
from feddag_flwr.sections import Section
from feddag_flwr.seeds import generator
from feddag_flwr.state import ServerState

logger = logging.getLogger("flwr")


@dataclass(frozen=True)
class RoundPlan:
    """Whom a round asks for what.

    Attributes
    ----------
    sampled : list of str
        Clients drawn for the round, in the order of names.
    asked : frozenset of str
        Those of them that have something to do, whether they are there or not.
    requests : dict of str to Request
        What each of them that is there is sent.
    """

    sampled: list[str]
    asked: frozenset[str]
    requests: Mapping[str, Request[Any]]


@dataclass(frozen=True)
class RoundReplies:
    """What came of a round: checked replies, in the order of client names."""

    server_round: int
    plan: RoundPlan
    replies: Mapping[str, TrainReply]


class Algorithm(ABC):
    """An algorithm's server half: few decisions, and what it keeps from round to round.

    What it does not override is FedAvg within the clusters: clients drawn by ``participation``
    train their cluster's model, whose parts become the members' aggregate (Eq. 18).

    Parameters
    ----------
    context : FederationContext
        What it may know and ask; ``state`` is there when `begin` or `load_state_dict` is called.
    """

    # The section of its own settings, for an algorithm that is named package.module:Class; one of
    # `feddag_flwr.algorithm_names` says it there, which costs no import.
    own_settings: ClassVar[type[Section] | None] = None
    # Epochs of local training that belong to the algorithm and come before a client is judged.
    adapt_epochs = 0
    # Whether models travel at all: what a client could keep to itself is no traffic.
    counts_traffic = True
    # Whether clients may come in while others train.
    admits_newcomers = True

    def __init__(self, context: FederationContext) -> None:
        self.context = context
        self.settings = context.settings

    @property
    def state(self) -> ServerState:
        """Clients, assignments and cluster models."""
        return self.context.state

    # -- what an algorithm decides -----------------------------------------------------------------

    @abstractmethod
    def begin(self) -> None:
        """Fill ``state`` with assignments and models, before the first round."""

    def plan_round(self, server_round: int) -> RoundPlan:
        """Say who trains what in a round; may ask clients, and change ``state``, before."""
        sampled = self.sample_clients(server_round)
        requests = {
            name: self.train_request(server_round, name) for name in self.context.connected(sampled)
        }
        return RoundPlan(sampled, frozenset(sampled), requests)

    def train_request(self, server_round: int, name: str) -> Request[Any]:
        """Return what a client of the round is sent: its cluster's model."""
        header, model = self.context.header(name, server_round), self.model_of(name)
        return TrainRequest(header, dict(model), self.local_training(name))

    def evaluate_request(
        self, server_round: int, name: str, personalisation_epochs: int
    ) -> EvaluateRequest:
        """Return what a client is asked that is to be judged."""
        return EvaluateRequest(
            self.context.header(name, server_round),
            self.judged_model_of(name),
            self.adapt_epochs,
            personalisation_epochs,
            LocalTrainingConfig.of(self.settings.training),
        )

    @property
    def plain_training(self) -> LocalTrainingConfig:
        """Local training as the settings say for the round that comes next."""
        return self.context.local_training()

    def local_training(self, name: str) -> LocalTrainingConfig:
        """Return how a client trains: as the settings say."""
        del name
        return self.plain_training

    def update(self, round_replies: RoundReplies) -> None:
        """Update the cluster models from the checked replies of a round."""
        self.average_clusters(round_replies)

    def told(self) -> Mapping[str, Any]:
        """Return what the line of the round in ``metrics.jsonl`` says of `update`: nothing."""
        return {}

    def summary(self) -> Mapping[str, Any]:
        """Return what ``summary.json`` says besides, at the end of a run: nothing."""
        return {}

    def prepare_evaluation(self, server_round: int, names: list[str]) -> None:
        """Prepare an evaluation of all clients; may ask them, and change ``state``."""
        del server_round, names

    def model_of(self, name: str) -> Model:
        """Return the model that a client trains and is judged by: its cluster's."""
        return self.state.models[self.state.assignments[name]]

    def judged_model_of(self, name: str) -> Model:
        """Return the model that a client is judged by, where that is another."""
        return self.model_of(name)

    def reference_of(self, name: str) -> tuple[int, ...]:
        """Class counts that a client tells drift by, those of its last profile: none."""
        del name
        return ()

    def looks_of(self, name: str) -> tuple[float, ...]:
        """How a client's classes looked at its last profile, to tell drift by: nothing."""
        del name
        return ()

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Cluster of each client that took no part in training: the one of lowest training loss.

        A client left out of the result stays without a model.
        """
        if self.state.num_clusters == 1:
            return dict.fromkeys(names, 0)
        return self.lowest_loss(server_round, names)

    def newcomer_request(self, server_round: int, name: str) -> Request[Any] | None:
        """Return what a client that comes in is asked before it is placed: nothing."""
        del server_round, name
        return None

    def place_newcomers(
        self, server_round: int, names: list[str], replies: Mapping[str, Any]
    ) -> dict[str, int]:
        """Cluster of each client that comes in while the others train; nobody else moves.

        They take part from the next round on. `replies` are those to `newcomer_request`, where
        there is one; a client without a valid reply is not among `names`.
        """
        del replies
        return self.place_held_out(server_round, names)

    def directions_request(self, server_round: int, name: str) -> Request[Any] | None:
        """Return what a client without labels is asked to be placed by; None: it is refused."""
        del server_round, name
        return None

    def place_unlabelled(
        self, server_round: int, clients: Mapping[str, int], replies: Mapping[str, Any]
    ) -> dict[str, tuple[int, float]]:
        """Cluster of each client without labels, and how sure that is, from 0 to 1.

        They neither train nor are judged. `clients` says how many samples each has, `replies` are
        those to `directions_request`. A client left out of the result is asked again.
        """
        del server_round, clients, replies
        return {}

    def state_dict(self) -> AlgorithmState:
        """Return what the algorithm keeps beside ``state``, for a checkpoint: nothing."""
        return AlgorithmState()

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take over what `state_dict` returned when the checkpoint was written."""
        del kept

    def model_after(self, name: str, reply: TrainReply) -> Model | None:
        """Return the model of a client's cluster as this reply alone would make it.

        Members judge it (setting ``judges``). None: the reply is not about a cluster's model.
        """
        model = self.state.models[self.state.assignments[name]]
        if not reply.parts.keys() <= model.keys():
            return None
        return dict(model) | reply.parts

    # -- steps that algorithms share ---------------------------------------------------------------

    def random_start(self, number: int = 0) -> Model:
        """Return a single-encoder start: 0 is the one that all algorithms share."""
        return get_parts(self.context.initial_model(dual=False, number=number))

    def start_together(self, models: Sequence[Model]) -> None:
        """Put every client into the first cluster of as many as there are models."""
        names = list(self.state.clients)
        self.state.set_clusters(names, [0] * len(names), models)

    def split_off(self, cluster: int, names: Collection[str]) -> int:
        """Give some members a cluster of their own with a copy of the model; return its number."""
        born = self.state.num_clusters
        self.state.models.append(dict(self.state.models[cluster]))
        self.state.assignments |= dict.fromkeys(names, born)
        return born

    def sample_clients(self, server_round: int) -> list[str]:
        """Draw the round's clients among those that have a cluster and are there; sorted."""
        settled = sorted(self.state.assignments.keys() - self.context.drifted)
        names = self.context.connected(settled)
        if not names:
            return []
        count = max(1, round(self.settings.run.participation * len(names)))
        rng = generator(self.settings.run.seed, "sample-clients", server_round=server_round)
        return sorted(names[i] for i in rng.choice(len(names), size=count, replace=False))

    def average_clusters(self, round_replies: RoundReplies, parts: Sequence[str] = TRAINED) -> None:
        """Aggregate the members' parts within each cluster (Eq. 18).

        A cluster without a reply stays as it was.
        """
        assignments = self.state.assignments
        asked = {assignments[name] for name in round_replies.plan.asked}
        for cluster in range(self.state.num_clusters):
            members = [
                reply
                for name, reply in round_replies.replies.items()
                if assignments[name] == cluster
            ]
            if not members and cluster in asked:
                logger.warning(
                    "round %d: cluster %d has no valid reply and stays as it was",
                    round_replies.server_round,
                    cluster,
                )
            for part in parts:
                self.aggregate_part(
                    cluster, part, [reply for reply in members if part in reply.parts]
                )

    def average_common(self, round_replies: RoundReplies, part: str) -> None:
        """Aggregate a part that all clusters have in common over the members of all of them.

        Each client counts by its samples, as in `average_clusters`. A cluster without a reply, or
        without a member, takes the new part over like the others.
        """
        trained = [reply for reply in round_replies.replies.values() if part in reply.parts]
        if not trained:
            return
        aggregated = self.context.aggregator.aggregate(
            [reply.parts[part] for reply in trained],
            [reply.samples for reply in trained],
            self.state.models[0][part],
        )
        for cluster in range(self.state.num_clusters):
            self.context.replace_part(cluster, part, aggregated)

    def aggregate_part(
        self, cluster: int, part: str, members: Sequence[TrainReply], *, even: bool = False
    ) -> None:
        """Make a cluster's part the aggregate of those who trained it, if anybody did.

        Each counts by its samples, or all alike where that is `even`.
        """
        if members:
            aggregated = self.context.aggregator.aggregate(
                [reply.parts[part] for reply in members],
                [1 if even else reply.samples for reply in members],
                self.state.models[cluster][part],
            )
            self.context.replace_part(cluster, part, aggregated)

    def candidate_losses(
        self, server_round: int, names: Iterable[str]
    ) -> dict[str, CandidateLosses]:
        """Ask clients how well all models fit their training data; each model travels to each."""
        header, models = self.context.header, tuple(self.state.models)
        return self.context.ask(
            CandidateLossesRequest(
                header(name, server_round), models, self.settings.training.objective
            )
            for name in names
        )

    def lowest_loss(self, server_round: int, names: Iterable[str]) -> dict[str, int]:
        """Ask clients which cluster's model has the lowest loss on their training data."""
        compared = self.candidate_losses(server_round, names)
        return {name: int(models.losses.argmin()) for name, models in compared.items()}
