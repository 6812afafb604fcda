"""What an algorithm decides, and the small things that it needs to do so."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, weighted_mean
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.exchange import Exchange
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import variance_places
from feddag_flwr.models.registry import build_model
from feddag_flwr.profile import Profile
from feddag_flwr.records import (
    CANDIDATE_LOSSES_ACTION,
    CandidateLosses,
    CandidateLossesRequest,
    LocalTrainingConfig,
    Model,
    RecordError,
    RequestHeader,
    TrainReply,
    TrainRequest,
)
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.seeds import derived_seed, generator
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState
from feddag_flwr.strategies.client_registry import ClientRegistry
from feddag_flwr.strategies.stopwatch import Stopwatch

logger = logging.getLogger("flwr")


class Algorithm(ABC):
    """The decisions that make an algorithm; `ClusteredStrategy` runs it.

    An algorithm says how clusters come to be (`form_clusters`) and, where it differs from one
    data-weighted mean a cluster, overrides what happens before a round (`before_round`), what a
    client runs, receives and returns (`phases_for`, `local_training_for`, `parts_for`, `candidates_for`,
    `prior_for`, `parts_from`, `numbers_from`), how replies become models (`aggregate`), which model
    a client is judged by (`before_evaluation`, `parts_to_evaluate`), where a client belongs that
    took no part in training (`place_held_out`) or comes later (`place_newcomers`), and what it keeps
    from round to round (`memory`, `recall`).

    Parameters
    ----------
    settings : Settings
        The run's settings.
    folder : RunFolder
        Where the run leaves its files.

    Attributes
    ----------
    state : ServerState
        Clients, assignments and cluster models; there once the roll has been called.
    exchange : Exchange
        The talk with the nodes; there with ``state``.
    registry : ClientRegistry
        Which node is which client.
    wait : float
        Seconds to wait for a reply in a round.
    requests : dict of str to TrainRequest
        What the clients of the round under way were sent.
    asked : set of str
        Clients drawn for the round under way that have something to do.
    true_groups : dict of str to int
        Where the scenario knows them: for the adjusted Rand index and `oracle` alone.
    held_out : dict of str to Client
        Clients that take no part in training (setting ``held_out-share``).
    drifted : set of str
        Clients whose data is no longer what they were placed by; they sit out until they are
        placed anew.
    absent : set of str
        Clients that were looked for last in vain.
    """

    state: ServerState
    exchange: Exchange

    # Epochs of local training that belong to the algorithm and come before a client is judged.
    adapt_epochs = 0
    # Whether models travel at all: what a client could keep to itself is no traffic.
    counts_traffic = True
    # Whether clients may come in while others train, and whether it takes a profile to place them.
    admits_newcomers = True
    profiles_newcomers = False

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self.settings = settings
        self.folder = folder
        self.wait = settings.round_timeout
        self.registry = ClientRegistry(bound=settings.identity == "node")
        self.watch = Stopwatch()
        self.requests: dict[str, TrainRequest] = {}
        self.asked: set[str] = set()
        self.true_groups: dict[str, int] = {}
        self.held_out: dict[str, Client] = {}
        self.drifted: set[str] = set()
        self.absent: set[str] = set()

    # -- what an algorithm decides ---------------------------------------------------------------

    @abstractmethod
    def form_clusters(self) -> None:
        """Fill ``state`` with assignments and models, before the first round."""

    def before_round(self, server_round: int, names: list[str]) -> None:
        """Prepare a round for its clients; may use ``exchange`` and change ``state``."""
        del server_round, names

    def phases_for(self, server_round: int, name: str) -> tuple[str, ...]:
        """Phases that a client runs this round; none: it is not asked."""
        del server_round, name
        return ("primary",)

    def local_training_for(self, server_round: int, name: str) -> LocalTrainingConfig:
        """How a client trains: plain SGD."""
        del server_round, name
        return LocalTrainingConfig()

    def parts_for(self, name: str, phases: tuple[str, ...]) -> Model:
        """Weights that a client receives for training: those of its cluster."""
        del phases
        return dict(self.state.models[self.state.assignments[name]])

    def candidates_for(self, name: str) -> Sequence[Model]:
        """Models of which the client takes the one that fits its training data best: none."""
        del name
        return ()

    def prior_for(self, name: str) -> NDArray[np.float64] | None:
        """Log weights for the phase ``mixture``, shape (K, C): none."""
        del name
        return None

    def before_evaluation(self, server_round: int, names: list[str]) -> None:
        """Prepare an evaluation of all clients; may use ``exchange`` and change ``state``."""
        del server_round, names

    def parts_to_evaluate(self, name: str) -> Model:
        """Weights that a client is judged by: those of its cluster."""
        return self.state.models[self.state.assignments[name]]

    def parts_from(self, request: TrainRequest) -> Model:
        """Parts that must come back, as weights of the shape they must have."""
        if not {"primary", "fomaml"} & set(request.phases):
            return {}
        start = 0 if request.candidates else None
        return {part: request.start_of(part, start) for part in ("primary", "classifier")}

    def numbers_from(self, request: TrainRequest) -> dict[str, tuple[int, ...]]:
        """Numbers that must come back beside the parts, with their shapes."""
        return {"losses": (self.settings.local_epochs,)} if request.config.losses else {}

    def reference_for(self, name: str) -> tuple[int, ...]:
        """Class counts that a client tells drift by, those of its last profile: none."""
        del name
        return ()

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Cluster of each client that took no part in training: the one of lowest training loss.

        A client left out of the result stays without a model.
        """
        if self.state.num_clusters == 1:
            return dict.fromkeys(names, 0)
        found = self.candidate_losses(server_round, names, self.state.models)
        return {name: int(found[name].losses.argmin()) for name in sorted(found)}

    def place_newcomers(
        self, server_round: int, names: list[str], profiles: Mapping[str, Profile]
    ) -> dict[str, int]:
        """Cluster of each client that comes in while the others train; nobody else moves.

        Parameters
        ----------
        server_round : int
            The round under way; they take part from the next one.
        names : list of str
            Clients that came in, in the order of names.
        profiles : mapping of str to Profile
            Where `profiles_newcomers`: what they sent; a client without a valid profile is not
            among `names`.
        """
        del profiles
        return self.place_held_out(server_round, names)

    def state_dict(self) -> AlgorithmState:
        """Return what the algorithm keeps beside ``state``, for a checkpoint: nothing."""
        return AlgorithmState()

    def load_state_dict(self, memory: AlgorithmState) -> None:
        """Take over what `memory` returned when the checkpoint was written."""
        del memory

    def aggregate(self, server_round: int, replies: Mapping[str, TrainReply]) -> None:
        """Update the cluster models: the data-weighted mean a cluster (Eq. 18).

        Parameters
        ----------
        server_round : int
            The round that the replies belong to.
        replies : mapping of str to TrainReply
            Checked replies, in the order of client names. A cluster without one stays as it was.
        """
        for cluster in range(self.state.num_clusters):
            members = [
                reply for name, reply in replies.items() if self.state.assignments[name] == cluster
            ]
            if not members and cluster in {self.state.assignments[name] for name in self.asked}:
                logger.warning(
                    "round %d: cluster %d has no valid reply and stays as it was",
                    server_round,
                    cluster,
                )
            for part in ("primary", "classifier"):
                trained = [reply for reply in members if part in reply.parts]
                if trained:
                    aggregated = weighted_mean(
                        [reply.parts[part] for reply in trained],
                        [reply.samples for reply in trained],
                    )
                    self.replace_part(cluster, part, aggregated)

    # -- small things for algorithms ---------------------------------------------------------------

    def sample_clients(self, server_round: int) -> list[str]:
        """Draw the round's clients among those that have a cluster and are there; sorted."""
        names = self.connected(sorted(self.state.assignments.keys() - self.drifted))
        if not names:
            return []
        count = max(1, round(self.settings.participation * len(names)))
        rng = generator(self.settings.seed, "sample-clients", server_round=server_round)
        return sorted(names[i] for i in rng.choice(len(names), size=count, replace=False))

    def replace_part(self, cluster: int, part: str, weights: Weights) -> None:
        """Give a cluster's model a new part, unless it overflowed: then the old one stays."""
        if weights.is_finite:
            self.state.models[cluster][part] = weights
        else:
            logger.warning("cluster %d keeps its %s: the aggregate is not finite", cluster, part)

    def candidate_losses(
        self, server_round: int, names: Iterable[str], models: Sequence[Model]
    ) -> dict[str, CandidateLosses]:
        """Ask clients how well models fit their training data; every model travels to each.

        Returns
        -------
        dict of str to CandidateLosses
            Of the clients with a valid reply, in the order of names.
        """
        headers = {name: self.header(name, server_round) for name in names}
        messages = (
            self.message(
                name,
                CandidateLossesRequest(header, tuple(models)).encode(),
                CANDIDATE_LOSSES_ACTION,
                server_round,
            )
            for name, header in headers.items()
        )
        found: dict[str, CandidateLosses] = {}
        for reply in self.exchange.send(messages, self.wait):
            name = self.registry.name_of(reply.metadata.src_node_id)
            try:
                found[name] = CandidateLosses.decode(
                    reply.content,
                    headers[name],
                    count=len(models),
                    limit=self.settings.max_client_samples,
                )
            except RecordError as error:
                logger.warning("measure: client %s is left out: %s", name, error)
        return {name: found[name] for name in sorted(found)}

    def read_train_reply(self, content: RecordDict, request: TrainRequest) -> TrainReply:
        """Read and check the reply to a train request.

        Raises
        ------
        RecordError
            With the reason.
        """
        reply = TrainReply.decode(
            content,
            request,
            expected=self.parts_from(request),
            numbers=self.numbers_from(request),
            limit=self.settings.max_client_samples,
            evaluated=self.settings.evaluate_participants,
        )
        for name, weights in reply.parts.items():
            self.check_variances(name.rpartition("/")[2], weights)
        return reply

    def check_variances(self, part: str, weights: Weights) -> None:
        """Refuse running variances below 0: the model would give NaN.

        Raises
        ------
        RecordError
            Names the part.
        """
        places = self._variances["secondary" if part == "transfer" else part]
        if (weights.buffers[places] < 0).any():
            raise RecordError(f"{part}: a running variance is negative")

    @cached_property
    def _variances(self) -> dict[str, NDArray[np.intp]]:
        parts = self.initial_model(dual=True).parts()
        return {str(part): variance_places(module) for part, module in parts.items()}

    def update_of(self, name: str, reply: TrainReply) -> NDArray[np.float32]:
        """Return how far a client's training moved the parameters, all parts in one vector."""
        request = self.requests[name]
        return np.concatenate([reply.update_of(part, request) for part in reply.parts])

    def client(self, name: str) -> Client:
        """Return a client of the roll call, whether training sees it or not."""
        return self.held_out[name] if name in self.held_out else self.state.clients[name]

    def largest_first(self, names: Iterable[str]) -> list[str]:
        """Order clients by falling number of training samples, then by name."""
        return sorted(names, key=lambda name: (-self.client(name).train_samples, name))

    def header(self, name: str, server_round: int) -> RequestHeader:
        """Return the common part of a request to `name`."""
        state = self.state
        return RequestHeader(
            name,
            server_round,
            state.class_names,
            state.sample_shape,
            state.sample_scale,
            self.settings.transport,
            self.reference_for(name),
        )

    def initial_model(self, *, dual: bool, number: int = 0) -> ClusterModel:
        """Make the run's model with its common random start, or with another one.

        Parameters
        ----------
        dual : bool
            Whether there is a secondary encoder.
        number : int, optional
            0: the start that all algorithms share; others are independent draws.

        Raises
        ------
        ModelError
            The setting ``model`` names nothing that can be used.
        """
        seed = self.settings.seed
        return build_model(
            self.settings.model,
            self.state.sample_shape,
            len(self.state.class_names),
            dual=dual,
            seed=derived_seed(seed, f"start-{number}") if number else seed,
        )

    def message(self, name: str, content: RecordDict, kind: str, server_round: int) -> Message:
        """Make a message to a client's node."""
        return Message(content, self.registry.nodes[name], kind, group_id=str(server_round))

    def connected(self, names: Collection[str]) -> list[str]:
        """Return the clients whose nodes are there, in the order given; log who left or is back."""
        there = set(self.exchange.nodes())
        found = [name for name in names if self.registry.nodes.get(name) in there]
        missing = set(names) - set(found)
        if left := sorted(missing - self.absent):
            logger.warning("not connected: %s", listed(left))
        if back := sorted(self.absent & set(found)):
            logger.info("connected again: %s", listed(back))
        self.absent = (self.absent | missing) - set(found)
        return found


def listed(names: Sequence[str]) -> str:
    """Join names, twenty at most."""
    rest = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + rest
