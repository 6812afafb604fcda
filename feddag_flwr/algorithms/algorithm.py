"""What an algorithm decides: clusters, what a round asks of whom, what becomes of replies."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.records import (
    CandidateLossesRequest,
    EvaluateRequest,
    Model,
    Request,
    TrainReply,
    TrainRequest,
)
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
    """What came of a round.

    Attributes
    ----------
    server_round : int
        The round.
    plan : RoundPlan
        What was asked.
    replies : dict of str to TrainReply
        Checked replies, in the order of client names.
    """

    server_round: int
    plan: RoundPlan
    replies: Mapping[str, TrainReply]

    def update_of(self, name: str) -> NDArray[np.float32]:
        """Return how far a client's training moved the parameters, all parts in one vector."""
        reply = self.replies[name]
        return np.concatenate([reply.update_of(part) for part in reply.parts])


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
            self.plain_training,
        )

    @property
    def plain_training(self) -> LocalTrainingConfig:
        """Local training as the settings say."""
        return LocalTrainingConfig.of(self.settings.training)

    def local_training(self, name: str) -> LocalTrainingConfig:
        """Return how a client trains: as the settings say."""
        del name
        return self.plain_training

    def update(self, found: RoundReplies) -> None:
        """Update the cluster models from the checked replies of a round."""
        self.average_clusters(found)

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

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Cluster of each client that took no part in training: the one of lowest training loss.

        A client left out of the result stays without a model.
        """
        if self.state.num_clusters == 1:
            return dict.fromkeys(names, 0)
        losses = self.candidate_losses(server_round, names, self.state.models)
        return {name: int(each.losses.argmin()) for name, each in losses.items()}

    def newcomer_request(self, server_round: int, name: str) -> Request[Any] | None:
        """Return what a client that comes in is asked before it is placed: nothing."""
        del server_round, name
        return None

    def place_newcomers(
        self, server_round: int, names: list[str], replies: Mapping[str, Any]
    ) -> dict[str, int]:
        """Cluster of each client that comes in while the others train; nobody else moves.

        Parameters
        ----------
        server_round : int
            The round under way; they take part from the next one.
        names : list of str
            Clients that came in, in the order of names.
        replies : mapping of str to reply
            Theirs to `newcomer_request`, where there is one; a client without a valid reply is not
            among `names`.
        """
        del replies
        return self.place_held_out(server_round, names)

    def state_dict(self) -> AlgorithmState:
        """Return what the algorithm keeps beside ``state``, for a checkpoint: nothing."""
        return AlgorithmState()

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take over what `state_dict` returned when the checkpoint was written."""
        del kept

    # -- steps that algorithms share ---------------------------------------------------------------

    def sample_clients(self, server_round: int) -> list[str]:
        """Draw the round's clients among those that have a cluster and are there; sorted."""
        settled = sorted(self.state.assignments.keys() - self.context.drifted)
        names = self.context.connected(settled)
        if not names:
            return []
        count = max(1, round(self.settings.run.participation * len(names)))
        rng = generator(self.settings.run.seed, "sample-clients", server_round=server_round)
        return sorted(names[i] for i in rng.choice(len(names), size=count, replace=False))

    def average_clusters(self, found: RoundReplies) -> None:
        """Aggregate the members' parts within each cluster (Eq. 18).

        A cluster without a reply stays as it was.
        """
        assignments = self.state.assignments
        asked = {assignments[name] for name in found.plan.asked}
        for cluster in range(self.state.num_clusters):
            members = [
                reply for name, reply in found.replies.items() if assignments[name] == cluster
            ]
            if not members and cluster in asked:
                logger.warning(
                    "round %d: cluster %d has no valid reply and stays as it was",
                    found.server_round,
                    cluster,
                )
            for part in ("primary", "classifier"):
                self.aggregate_part(cluster, part, [each for each in members if part in each.parts])

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
        self, server_round: int, names: list[str], models: Sequence[Model]
    ) -> dict[str, Any]:
        """Ask clients how well models fit their training data; every model travels to each."""
        header, objective = self.context.header, self.settings.training.objective
        return self.context.ask(
            CandidateLossesRequest(header(name, server_round), tuple(models), objective)
            for name in names
        )
