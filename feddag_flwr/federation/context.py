"""What an algorithm may know of its federation, and ask of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from feddag_flwr.aggregation import Weights
from feddag_flwr.aggregators import Aggregator
from feddag_flwr.federation.client_registry import ClientRegistry
from feddag_flwr.federation.exchange import Exchange, Wait
from feddag_flwr.federation.privacy_ledger import PrivacyLedger
from feddag_flwr.federation.stopwatch import Stopwatch
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.metrics import metric_names
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import variance_places
from feddag_flwr.models.pretrained import load_encoders
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import Limits, Request, RequestHeader, TrainReply
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.seeds import derived_seed
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState, Unlabelled
from feddag_flwr.subspace_view import make_view, view_name

logger = logging.getLogger("flwr")


class FederationContext:
    """The federation as an algorithm sees it: state, clients that are there, one way to ask them.

    Attributes
    ----------
    state : ServerState
        Clients, assignments and cluster models; there once the clients are registered.
    true_groups : dict of str to int
        Where the scenario knows them: for the adjusted Rand index and `oracle` alone.
    held_out : dict of str to Client
        Clients that take no part in training (setting ``held-out-share``).
    unlabelled : dict of str to Unlabelled
        Clients without labels, which have a cluster and take no part (setting ``unlabelled``).
    drifted : set of str
        Clients whose data is no longer what they were placed by; they sit out until they are
        placed anew.
    absent : set of str
        Clients that were looked for last in vain.
    reference_of : callable
        From a client's name to the class counts that it tells drift by; none by default.
    looks_of : callable
        The same for how its classes looked.
    usable : callable
        From replies to a request to train, by client, and the round to those that can be used,
        as the run's postprocessors leave them.
    ledger : PrivacyLedger or None
        What private profiles and private training have cost, where there are any.
    """

    state: ServerState
    exchange: Exchange

    def __init__(self, settings: Settings, folder: RunFolder, aggregator: Aggregator) -> None:
        self.settings = settings
        self.folder = folder
        self.aggregator = aggregator
        self.clients = ClientRegistry(bound=settings.deployment.identity == "node")
        self.round_timeout = settings.deployment.round_timeout
        self.watch = Stopwatch()
        self.true_groups: dict[str, int] = {}
        self.held_out: dict[str, Client] = {}
        self.unlabelled: dict[str, Unlabelled] = {}
        self.drifted: set[str] = set()
        self.absent: set[str] = set()
        self._told_start = False
        self.ledger = PrivacyLedger(settings, folder) if settings.privacy.on else None
        self.looks_of: Callable[[str], tuple[float, ...]] = lambda _: ()
        self.reference_of: Callable[[str], tuple[int, ...]] = lambda _: ()
        self.usable: Callable[[dict[str, TrainReply], int], dict[str, TrainReply]] = (
            lambda replies, _: replies
        )

    # -- who is there ------------------------------------------------------------------------------

    def connected(self, names: Collection[str]) -> list[str]:
        """Return the clients whose nodes are there, in the order given; log who left or is back."""
        there = set(self.exchange.nodes())
        present = [name for name in names if self.clients.nodes.get(name) in there]
        missing = set(names) - set(present)
        if left := sorted(missing - self.absent):
            logger.warning("not connected: %s", listed(left))
        if back := sorted(self.absent & set(present)):
            logger.info("connected again: %s", listed(back))
        self.absent = (self.absent | missing) - set(present)
        return present

    def client(self, name: str) -> Client:
        """Return a registered client, whether training sees it or not."""
        return self.held_out[name] if name in self.held_out else self.state.clients[name]

    def largest_first(self, names: Iterable[str]) -> list[str]:
        """Order clients by falling number of training samples, then by name."""
        return sorted(names, key=lambda name: (-self.client(name).train_samples, name))

    # -- asking them -------------------------------------------------------------------------------

    def header(self, name: str, server_round: int) -> RequestHeader:
        """Return the common part of a request to `name`."""
        state = self.state
        return RequestHeader(
            name,
            server_round,
            state.class_names,
            state.sample_shape,
            state.sample_scale,
            self.settings.run.transport,
            self.reference_of(name),
            metric_names(self.settings.run.metrics),
            self.settings.data.modality,
            state.sample_details,
            self.looks_of(name),
        )

    def ask(self, requests: Iterable[Request[Any]], wait: Wait | None = None) -> dict[str, Any]:
        """Ask clients; return checked replies, in the order of client names.

        Whoever sends none in time (by default ``round_timeout`` seconds) is left out, with a log
        line. Requests, one a client, are drawn one by one: no more than are under way need
        memory.
        """
        replies = dict(self.stream(requests, wait))
        return {name: replies[name] for name in sorted(replies)}

    def stream(
        self, requests: Iterable[Request[Any]], wait: Wait | None = None
    ) -> Iterator[tuple[str, Any]]:
        """Ask clients as `ask` does, and yield name and checked reply as they come."""
        letters = (self.exchange.to_client(request) for request in requests)
        wait = Wait(self.round_timeout) if wait is None else wait
        for letter, reply in self.exchange.stream(letters, wait):
            yield self.clients.name_of(letter.node_id), reply

    @property
    def profile_wait(self) -> Wait:
        """How long a profile is waited for."""
        return Wait(self.settings.deployment.profile_timeout, "profile-timeout")

    def leave_out_for_length(self, name: str, kind: str) -> None:
        """Note that a client's update was longer than others' by far; the log has said so."""
        ratio = self.settings.deployment.max_update_ratio
        reason = f"an update longer than max-update-ratio = {ratio:g} times the median"
        self.exchange.left_out.note_client(name, kind, reason)

    # -- models ------------------------------------------------------------------------------------

    def initial_model(self, *, dual: bool, number: int = 0) -> ClusterModel:
        """Make the run's model with the start that all share, or draw another `number`.

        At random; but encoders have the weights of ``encoder-weights`` where that names a file.
        """
        model = self.bare_model(dual=dual, number=number)
        if self.settings.training.encoder_weights:
            said = load_encoders(model, self.settings.training.encoder_weights)
            if not self._told_start:
                self._told_start = True
                logger.info("encoders start from %s", said)
        return model

    def bare_model(self, *, dual: bool, number: int = 0) -> ClusterModel:
        """Make the run's model with a random start, where its weights do not matter."""
        seed = self.settings.run.seed
        return build_model(
            self.settings.training.model,
            self.state.sample_shape,
            len(self.state.class_names),
            dual=dual,
            seed=derived_seed(seed, f"start-{number}") if number else seed,
            modality=self.settings.data.modality,
            details=self.state.sample_details,
            normalisation=self.settings.training.normalisation_layer,
        )

    def tell_view(self) -> None:
        """Say in the log what subspaces are of, where that is not the samples themselves."""
        settings = self.settings
        view = make_view(
            view_name(settings.profile), settings.data.modality, self.state.spec, settings.run.seed
        )
        if view.kind != "raw":
            logger.info("%s", view.in_words())

    def local_training(self) -> LocalTrainingConfig:
        """Return how clients train in the round that comes next, as the settings say."""
        settings = self.settings
        return LocalTrainingConfig.scheduled(
            settings.training, self.state.server_round, settings.run.num_rounds
        )

    def limits(self, model: ClusterModel | None = None) -> Limits:
        """Return what is believed of a reply: bounds of the run, and of its model."""
        parts = {} if model is None else model.parts()
        return Limits(
            self.settings.deployment.max_client_samples,
            self.settings.run.evaluate_participants,
            self.settings.profile.subspace_size,
            self.settings.data.modality,
            view_name(self.settings.profile),
            {str(part): variance_places(module) for part, module in parts.items()},
            self.settings.deployment.max_reply_size * 2**20,
        )

    def replace_part(self, cluster: int, part: str, weights: Weights) -> None:
        """Give a cluster's model a new part, unless it overflowed: then the old one stays."""
        if weights.is_finite:
            self.state.models[cluster][part] = weights
        else:
            logger.warning("cluster %d keeps its %s: the aggregate is not finite", cluster, part)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Count the seconds of a block under a name, for ``seconds.jsonl``."""
        return self.watch.phase(name)


def listed(names: Sequence[str]) -> str:
    """Join names, twenty at most."""
    rest = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + rest
