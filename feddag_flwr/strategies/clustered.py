"""The base of every algorithm with one model a cluster."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, weighted_mean
from feddag_flwr.exchange import Exchange
from feddag_flwr.metrics import Evaluation, mean_over_clients
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import (
    MEASURE_ACTION,
    EvaluateReply,
    EvaluateRequest,
    Measurement,
    MeasureRequest,
    Model,
    Recipe,
    RecordError,
    Task,
    TrainReply,
    TrainRequest,
)
from feddag_flwr.report import (
    Progress,
    adjusted_rand_index,
    closing_summary,
    print_closing_table,
)
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.seeds import derived_seed, generator
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState
from feddag_flwr.strategies.outliers import without_outliers
from feddag_flwr.strategies.roster import (
    MIN_CLIENTS,
    FederationError,
    Roster,
    call_roll,
    client_of,
    merge_class_names,
    pixel_scale,
)
from feddag_flwr.strategies.round_log import RoundLog
from feddag_flwr.strategies.stopwatch import Stopwatch

logger = logging.getLogger("flwr")


class ClusteredStrategy(Strategy):
    """Trains one model a cluster: sampling, messages, checks, aggregation, evaluation, state.

    An algorithm says how clusters come to be (`form_clusters`) and, where it differs from one
    data-weighted mean a cluster, overrides what happens before a round (`before_round`), what a
    client runs, receives and returns (`phases_for`, `recipe_for`, `parts_for`, `candidates_for`,
    `prior_for`, `parts_from`, `numbers_from`), how replies become models (`aggregate`), which model
    a client is judged by (`before_evaluation`, `parts_to_evaluate`), or where a client belongs that
    took no part in training (`place_unseen`).

    Parameters
    ----------
    settings : Settings
        The run's settings.
    folder : RunFolder
        Where the run leaves its files.

    Attributes
    ----------
    state : ServerState
        Clients, assignments and cluster models; there once `start` has called the roll.
    wait : float
        Seconds to wait for a reply in a round.
    evaluations : dict of str to Evaluation
        The last evaluation of all clients, by client name.
    true_groups : dict of str to int
        Where the scenario knows them: for the adjusted Rand index and `oracle` alone.
    unseen : dict of str to Client
        Clients that take no part in training (setting ``unseen-share``).
    """

    state: ServerState
    exchange: Exchange

    # Epochs of local training that belong to the algorithm and come before a client is judged.
    adapt_epochs = 0
    # Whether models travel at all: what a client could keep to itself is no traffic.
    counts_traffic = True

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self.settings = settings
        self.folder = folder
        self.wait = settings.round_timeout
        self.roster = Roster()
        self.watch = Stopwatch()
        self.evaluations: dict[str, Evaluation] = {}
        self.true_groups: dict[str, int] = {}
        self.unseen: dict[str, Client] = {}
        self.placements: dict[str, int] = {}
        self.unseen_evaluations: dict[str, Evaluation] = {}
        self._judged: dict[str, EvaluateRequest] = {}
        self._requests: dict[str, TrainRequest] = {}
        self._asked: set[str] = set()
        self._rounds_with_replies = 0
        self.log = RoundLog(folder)

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

    def recipe_for(self, server_round: int, name: str) -> Recipe:
        """How a client trains: plain SGD."""
        del server_round, name
        return Recipe()

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
        if not {"primary", "meta"} & set(request.phases):
            return {}
        start = 0 if request.candidates else None
        return {part: request.start_of(part, start) for part in ("primary", "classifier")}

    def numbers_from(self, request: TrainRequest) -> dict[str, tuple[int, ...]]:
        """Numbers that must come back beside the parts, with their shapes."""
        return {"losses": (self.settings.local_epochs,)} if request.recipe.losses else {}

    def place_unseen(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Cluster of each client that took no part in training: the one of lowest training loss.

        A client left out of the result stays without a model.
        """
        if self.state.num_clusters == 1:
            return dict.fromkeys(names, 0)
        found = self.measure(server_round, names, self.state.models)
        return {name: int(found[name].losses.argmin()) for name in sorted(found)}

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
            if not members and cluster in {self.state.assignments[name] for name in self._asked}:
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

    # -- the run -----------------------------------------------------------------------------------

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int | None = None,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the algorithm from the roll call to the closing table.

        Parameters
        ----------
        grid : Grid
            Flower's connection to the nodes.
        num_rounds, timeout : optional
            In place of the settings ``num-rounds`` and ``round-timeout``.
        initial_arrays, train_config, evaluate_config, evaluate_fn
            Flower's way to hand in one global model; refused, since each cluster has its own.

        Returns
        -------
        Result
            Metrics by round. The cluster models are in ``state`` and in the run folder.

        Raises
        ------
        FederationError
            Too few clients came, too few could be used, or none ever sent a valid reply.
        ValueError
            An argument that has no meaning here was given.
        """
        if initial_arrays or train_config or evaluate_config or evaluate_fn is not None:
            raise ValueError("a clustered strategy takes no global model, config or evaluate_fn")
        rounds = self.settings.num_rounds if num_rounds is None else num_rounds
        wait = self.wait = self.settings.round_timeout if timeout is None else timeout
        result = Result()
        self._open(grid)
        progress = Progress(rounds)
        if rounds == 0:
            self._evaluate(0, wait, result, last=True)
        self._write_round(0)
        for server_round in range(1, rounds + 1):
            last = server_round == rounds
            self._train(server_round, wait, result)
            if last or server_round % self.settings.evaluate_every == 0:
                self._evaluate(server_round, wait, result, last=last)
                self.folder.write_state(self.state)
            progress.show(server_round, self.state.num_clusters, self.log.line)
            self._write_round(server_round)
        self._close()
        if rounds and not self._rounds_with_replies:
            raise FederationError(f"no client sent a valid reply in any of {rounds} rounds")
        return result

    def _open(self, grid: Grid) -> None:
        """Call the roll and form the clusters: all that comes before the first round."""
        self.exchange = Exchange(grid, self.settings.wave_size, self.roster.name_of)
        with self.watch.phase("roll-call"):
            descriptions = call_roll(self.exchange, self.settings, self.roster)
        self.folder.open()
        self.summary()
        unseen = self._draw_unseen([each.client for each in descriptions])
        seen = [each for each in descriptions if each.client not in unseen]
        self.unseen = {
            each.client: client_of(each) for each in descriptions if each.client in unseen
        }
        self.true_groups = {
            each.client: each.true_group for each in descriptions if each.true_group is not None
        }
        self.state = ServerState(
            class_names=merge_class_names(seen),
            image_shape=seen[0].image_shape,
            pixel_scale=pixel_scale(seen, standardise=self.settings.standardise),
            clients={each.client: client_of(each) for each in seen},
        )
        self.form_clusters()
        self.log.line["clusters"] = self.state.num_clusters

    def _train(self, server_round: int, timeout: float, result: Result) -> None:
        grid = self.exchange.grid
        with self.watch.phase("train"):
            messages = self.configure_train(server_round, ArrayRecord(), ConfigRecord(), grid)
            replies = self.exchange.send(messages, "train", timeout)
            _, metrics = self.aggregate_train(server_round, replies)
        if metrics is not None:
            result.train_metrics_clientapp[server_round] = metrics

    def _draw_unseen(self, names: list[str]) -> set[str]:
        """Draw the clients that training never sees; two at least stay."""
        count = min(round(self.settings.unseen_share * len(names)), len(names) - MIN_CLIENTS)
        chosen = generator(self.settings.seed, "draw-unseen").permutation(len(names))[:count]
        return {names[index] for index in chosen}

    def _evaluate(self, server_round: int, timeout: float, result: Result, *, last: bool) -> None:
        grid = self.exchange.grid
        with self.watch.phase("evaluate"):
            self.before_evaluation(server_round, self._connected(sorted(self.state.clients), grid))
            tune = self.settings.fine_tune_epochs if last else 0
            config = ConfigRecord({"fine-tune-epochs": tune})
            messages = self.configure_evaluate(server_round, ArrayRecord(), config, grid)
            replies = self.exchange.send(messages, "evaluate", timeout)
            metrics = self.aggregate_evaluate(server_round, replies)
            if last and self.unseen:
                self._evaluate_unseen(server_round, timeout, tune)
        if metrics is not None:
            result.evaluate_metrics_clientapp[server_round] = metrics

    def _evaluate_unseen(self, server_round: int, timeout: float, tune: int) -> None:
        """Place the clients that training never saw, and judge them by the final models."""
        names = self._connected(sorted(self.unseen), self.exchange.grid)
        kept = self.state.assignments
        self.placements = self.place_unseen(server_round, names)
        self.state.assignments = kept | self.placements
        messages = self._ask_to_evaluate(server_round, sorted(self.placements), tune)
        judged, tuned = self._judgements(self.exchange.send(messages, "evaluate", timeout))
        self.unseen_evaluations = judged
        self.log.note_evaluations("unseen", judged, self.state.assignments)
        if tune:
            self.log.note_evaluations("unseen-tuned", tuned, self.state.assignments)
        self.state.assignments = kept

    def _write_round(self, server_round: int) -> None:
        traffic = self.exchange.take_bytes()
        if not self.counts_traffic:
            traffic = {"down": {}, "up": {}}
        self.log.write(server_round, self.state, traffic, self.watch.take())

    def _close(self) -> None:
        self.folder.write_state(self.state)
        summary = closing_summary(
            self.state, self.evaluations, self.true_groups, self.log.total_bytes
        )
        if self.unseen:
            summary["unseen"] = {
                "placements": self.placements,
                "adjusted-rand-index": adjusted_rand_index(self.placements, self.true_groups),
                **mean_over_clients(self.unseen_evaluations.values()),
            }
        self.folder.write_json("summary.json", summary)
        print_closing_table(summary, self.folder.path)

    # -- Flower's steps of a round ---------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Draw the round's clients and yield one request each, the largest client first.

        So nobody waits for a large client that started last. `arrays` and `config` are part of
        Flower's interface; models and values are ``state``'s.
        """
        del arrays, config
        sampled = self.sample_clients(server_round)
        connected = self._connected(sampled, grid)
        self.log.line["sampled"] = sampled
        self._requests = {}
        self.before_round(server_round, connected)
        self._asked = {name for name in sampled if self.phases_for(server_round, name)}
        for name in self.largest_first(connected):
            if not (phases := self.phases_for(server_round, name)):
                continue
            candidates = tuple(dict(model) for model in self.candidates_for(name))
            request = TrainRequest(
                self.task(name, server_round),
                {} if candidates else self.parts_for(name, phases),
                phases,
                self.recipe_for(server_round, name),
                candidates,
                self.prior_for(name),
            )
            self._requests[name] = request
            yield self._message(name, request.encode(), MessageType.TRAIN, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, aggregate the good ones in the order of names, and sum up metrics."""
        checked: dict[str, TrainReply] = {}
        for reply in replies:
            name = self.roster.name_of(reply.metadata.src_node_id)
            if (request := self._requests.get(name)) is None:
                logger.warning("train: %s was not asked in round %d", name, server_round)
                continue
            try:
                checked[name] = self.read_train_reply(reply.content, request)
            except RecordError as error:
                logger.warning("train: client %s is left out: %s", name, error)
        ordered = without_outliers(
            {name: checked[name] for name in sorted(checked)},
            self._requests,
            self.settings.max_update_ratio,
        )
        self._note_lost(server_round, ordered)
        with self.watch.phase("aggregate"):
            self.aggregate(server_round, ordered)
        self.state.server_round = server_round
        received = {name: reply.received for name, reply in ordered.items() if reply.received}
        return None, self.log.note_evaluations("participants", received, self.state.assignments)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Make one request for every client that has a cluster, in the order of names.

        `config` holds ``fine-tune-epochs``: after the last round that setting, else 0.
        """
        del arrays
        names = self._connected(sorted(self.state.assignments), grid)
        return self._ask_to_evaluate(server_round, names, int(str(config["fine-tune-epochs"])))

    def _ask_to_evaluate(
        self, server_round: int, names: Iterable[str], tune: int
    ) -> Iterator[Message]:
        self._judged = {}
        for name in names:
            request = EvaluateRequest(
                self.task(name, server_round),
                self.parts_to_evaluate(name),
                self.adapt_epochs,
                tune,
            )
            self._judged[name] = request
            yield self._message(name, request.encode(), MessageType.EVALUATE, server_round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Check the replies and sum up metrics of all clients."""
        del server_round
        self.evaluations, tuned = self._judgements(replies)
        if tuned:
            self.log.note_evaluations("tuned", tuned, self.state.assignments)
        return self.log.note_evaluations("all", self.evaluations, self.state.assignments)

    def _judgements(
        self, replies: Iterable[Message]
    ) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
        """Check replies to `_ask_to_evaluate`: as judged, and after fine-tuning; by name."""
        found: dict[str, EvaluateReply] = {}
        for reply in replies:
            name = self.roster.name_of(reply.metadata.src_node_id)
            if (request := self._judged.get(name)) is None:
                logger.warning("evaluate: %s was not asked", name)
                continue
            try:
                found[name] = EvaluateReply.decode(
                    reply.content,
                    request.task,
                    test_samples=self.client(name).test_samples,
                    tuned=request.tune_epochs > 0,
                )
            except RecordError as error:
                logger.warning("evaluate: client %s is left out: %s", name, error)
        ordered = {name: found[name] for name in sorted(found)}
        judged = {name: reply.evaluation for name, reply in ordered.items()}
        return judged, {name: each.tuned for name, each in ordered.items() if each.tuned}

    def summary(self) -> None:
        """Log what runs, and where its files go."""
        logger.info("%s on %s", type(self).__name__, self.settings.source)
        logger.info("run folder: %s", self.folder.path)

    # -- small things for algorithms -------------------------------------------------------------

    def sample_clients(self, server_round: int) -> list[str]:
        """Draw the round's clients among all that have a cluster; sorted by name."""
        names = sorted(self.state.assignments)
        count = max(1, round(self.settings.participation * len(names)))
        rng = generator(self.settings.seed, "sample-clients", server_round=server_round)
        return sorted(names[i] for i in rng.choice(len(names), size=count, replace=False))

    def replace_part(self, cluster: int, part: str, weights: Weights) -> None:
        """Give a cluster's model a new part, unless it overflowed: then the old one stays."""
        if weights.is_finite:
            self.state.models[cluster][part] = weights
        else:
            logger.warning("cluster %d keeps its %s: the aggregate is not finite", cluster, part)

    def measure(
        self, server_round: int, names: Iterable[str], models: Sequence[Model]
    ) -> dict[str, Measurement]:
        """Ask clients how well models fit their training data; every model travels to each.

        Returns
        -------
        dict of str to Measurement
            Of the clients with a valid reply, in the order of names.
        """
        tasks = {name: self.task(name, server_round) for name in names}
        messages = (
            self._message(
                name, MeasureRequest(task, tuple(models)).encode(), MEASURE_ACTION, server_round
            )
            for name, task in tasks.items()
        )
        found: dict[str, Measurement] = {}
        for reply in self.exchange.send(messages, "measure", self.wait):
            name = self.roster.name_of(reply.metadata.src_node_id)
            try:
                found[name] = Measurement.decode(
                    reply.content,
                    tasks[name],
                    count=len(models),
                    samples=self.client(name).train_samples,
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
        client = self.client(request.task.client)
        return TrainReply.decode(
            content,
            request,
            expected=self.parts_from(request),
            numbers=self.numbers_from(request),
            samples=client.train_samples,
            test_samples=client.test_samples,
            evaluated=self.settings.evaluate_participants,
        )

    def update_of(self, name: str, reply: TrainReply) -> NDArray[np.float32]:
        """Return how far a client's training moved the parameters, all parts in one vector."""
        request = self._requests[name]
        return np.concatenate([reply.update_of(part, request) for part in reply.parts])

    def client(self, name: str) -> Client:
        """Return a client of the roll call, whether training sees it or not."""
        return self.unseen[name] if name in self.unseen else self.state.clients[name]

    def largest_first(self, names: Iterable[str]) -> list[str]:
        """Order clients by falling number of training samples, then by name."""
        return sorted(names, key=lambda name: (-self.client(name).train_samples, name))

    def task(self, name: str, server_round: int) -> Task:
        """Return the common part of a request to `name`."""
        state = self.state
        return Task(
            name,
            server_round,
            state.class_names,
            state.image_shape,
            state.pixel_scale,
            self.settings.transport,
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
            self.state.image_shape,
            len(self.state.class_names),
            dual=dual,
            seed=derived_seed(seed, f"start-{number}") if number else seed,
        )

    def _message(
        self,
        name: str,
        content: RecordDict,
        kind: str,
        server_round: int,
    ) -> Message:
        return Message(content, self.roster.nodes[name], kind, group_id=str(server_round))

    def _connected(self, names: list[str], grid: Grid) -> list[str]:
        there = set(grid.get_node_ids())
        missing = [name for name in names if self.roster.nodes[name] not in there]
        for name in missing:
            logger.warning("client %s is not connected", name)
        return [name for name in names if name not in missing]

    def _note_lost(self, server_round: int, replies: Mapping[str, TrainReply]) -> None:
        """Record who was asked in vain, and the clusters that stay as they were for it."""
        lost = sorted(self._asked - set(replies))
        self._rounds_with_replies += bool(replies)
        self.log.line |= {
            "clusters": self.state.num_clusters,
            "replied": len(replies),
            "lost": lost,
        }
