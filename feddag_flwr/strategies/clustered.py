"""The base of every algorithm with one model a cluster."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from feddag_flwr.aggregation import Weights, distance, weighted_mean
from feddag_flwr.exchange import Exchange
from feddag_flwr.metrics import Evaluation, mean_over_clients
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import (
    EvaluateReply,
    EvaluateRequest,
    RecordError,
    Task,
    TrainReply,
    TrainRequest,
)
from feddag_flwr.report import Progress, closing_summary, print_closing_table
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.state import Client, ServerState
from feddag_flwr.strategies.roster import (
    FederationError,
    Roster,
    call_roll,
    merge_class_names,
    pixel_scale,
)
from feddag_flwr.strategies.stopwatch import Stopwatch

logger = logging.getLogger("flwr")


class ClusteredStrategy(Strategy):
    """Trains one model a cluster: sampling, messages, checks, aggregation, evaluation, state.

    An algorithm says how clusters come to be (`form_clusters`) and, where it differs from one
    data-weighted mean a cluster, overrides what happens before a round (`before_round`), what a
    client runs, receives and returns (`phases_for`, `parts_for`, `parts_from`), how replies become
    models (`aggregate`), or which model a client is judged by (`parts_to_evaluate`).

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
    evaluations : dict of str to Evaluation
        The last evaluation of all clients, by client name.
    """

    state: ServerState
    exchange: Exchange

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self.settings = settings
        self.folder = folder
        self.roster = Roster()
        self.watch = Stopwatch()
        self.evaluations: dict[str, Evaluation] = {}
        self.true_groups: dict[str, int] = {}
        self._requests: dict[str, TrainRequest] = {}
        self._asked: set[str] = set()
        self._rounds_with_replies = 0
        self._line: dict[str, Any] = {}
        self._total_bytes = 0

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

    def parts_for(self, name: str, phases: tuple[str, ...]) -> dict[str, Weights]:
        """Weights that a client receives for training: those of its cluster."""
        del phases
        return dict(self.state.models[self.state.assignments[name]])

    def parts_to_evaluate(self, name: str) -> dict[str, Weights]:
        """Weights that a client is judged by: those of its cluster."""
        return self.state.models[self.state.assignments[name]]

    def parts_from(self, request: TrainRequest) -> dict[str, Weights]:
        """Parts that must come back, as weights of the shape they must have."""
        if "primary" not in request.phases:
            return {}
        return {part: request.parts[part] for part in ("primary", "classifier")}

    def aggregate(self, server_round: int, replies: Mapping[str, TrainReply]) -> None:
        """Update the cluster models: the data-weighted mean a cluster (Eq. 18).

        Parameters
        ----------
        server_round : int
            The round that the replies belong to.
        replies : mapping of str to TrainReply
            Checked replies, in the order of client names. A cluster without one stays as it was.
        """
        del server_round
        for cluster in range(self.state.num_clusters):
            for part in ("primary", "classifier"):
                members = [
                    reply
                    for name, reply in replies.items()
                    if self.state.assignments[name] == cluster and part in reply.parts
                ]
                if members:
                    aggregated = weighted_mean(
                        [reply.parts[part] for reply in members],
                        [reply.samples for reply in members],
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
        wait = self.settings.round_timeout if timeout is None else timeout
        result = Result()
        self._open(grid)
        progress = Progress(rounds)
        if rounds == 0:
            self._evaluate(0, wait, result)
        self._write_round(0)
        for server_round in range(1, rounds + 1):
            self._train(server_round, wait, result)
            if server_round == rounds or server_round % self.settings.evaluate_every == 0:
                self._evaluate(server_round, wait, result)
                self.folder.write_state(self.state)
            progress.show(server_round, self.state.num_clusters, self._line)
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
        self.state = ServerState(
            class_names=merge_class_names(descriptions),
            image_shape=descriptions[0].image_shape,
            pixel_scale=pixel_scale(descriptions, standardise=self.settings.standardise),
            clients={
                each.client: Client(each.client, each.train_samples, each.test_samples)
                for each in descriptions
            },
        )
        self.form_clusters()
        self._line["clusters"] = self.state.num_clusters

    def _train(self, server_round: int, timeout: float, result: Result) -> None:
        grid = self.exchange.grid
        with self.watch.phase("train"):
            messages = self.configure_train(server_round, ArrayRecord(), ConfigRecord(), grid)
            replies = self.exchange.send(messages, "train", timeout)
            _, metrics = self.aggregate_train(server_round, replies)
        if metrics is not None:
            result.train_metrics_clientapp[server_round] = metrics

    def _evaluate(self, server_round: int, timeout: float, result: Result) -> None:
        grid = self.exchange.grid
        with self.watch.phase("evaluate"):
            messages = self.configure_evaluate(server_round, ArrayRecord(), ConfigRecord(), grid)
            replies = self.exchange.send(messages, "evaluate", timeout)
            metrics = self.aggregate_evaluate(server_round, replies)
        if metrics is not None:
            result.evaluate_metrics_clientapp[server_round] = metrics

    def _write_round(self, server_round: int) -> None:
        moved = self.exchange.take_bytes()
        self._total_bytes += sum(sum(kinds.values()) for kinds in moved.values())
        line = {"round": server_round, **self._line, "bytes": moved}
        self.folder.append_line("metrics.jsonl", line)
        self.folder.append_line("seconds.jsonl", {"round": server_round, **self.watch.take()})
        self._line = {}

    def _close(self) -> None:
        self.folder.write_state(self.state)
        summary = closing_summary(self.state, self.evaluations, self.true_groups, self._total_bytes)
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
        self._line["sampled"] = sampled
        self._requests = {}
        self.before_round(server_round, connected)
        self._asked = {name for name in sampled if self.phases_for(server_round, name)}
        for name in self.largest_first(connected):
            if not (phases := self.phases_for(server_round, name)):
                continue
            request = TrainRequest(
                self.task(name, server_round), self.parts_for(name, phases), phases
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
                checked[name] = TrainReply.decode(
                    reply.content,
                    request.task,
                    expected=self.parts_from(request),
                    samples=self.state.clients[name].train_samples,
                    test_samples=self.state.clients[name].test_samples,
                )
            except RecordError as error:
                logger.warning("train: client %s is left out: %s", name, error)
        ordered = self._without_outliers({name: checked[name] for name in sorted(checked)})
        self._note_lost(server_round, ordered)
        with self.watch.phase("aggregate"):
            self.aggregate(server_round, ordered)
        self.state.server_round = server_round
        received = {name: reply.received for name, reply in ordered.items()}
        return None, self._note_metrics("participants", received)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Yield one request for every client that has a cluster, in the order of names."""
        del arrays, config
        for name in self._connected(sorted(self.state.assignments), grid):
            request = EvaluateRequest(self.task(name, server_round), self.parts_to_evaluate(name))
            yield self._message(name, request.encode(), MessageType.EVALUATE, server_round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Check the replies and sum up metrics of all clients."""
        found: dict[str, EvaluateReply] = {}
        for reply in replies:
            name = self.roster.name_of(reply.metadata.src_node_id)
            try:
                found[name] = EvaluateReply.decode(
                    reply.content,
                    self.task(name, server_round),
                    test_samples=self.state.clients[name].test_samples,
                )
            except RecordError as error:
                logger.warning("evaluate: client %s is left out: %s", name, error)
        self.evaluations = {name: found[name].evaluation for name in sorted(found)}
        groups = {name: reply.true_group for name, reply in sorted(found.items())}
        self.true_groups = {name: group for name, group in groups.items() if group is not None}
        return self._note_metrics("all", self.evaluations)

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

    def largest_first(self, names: Iterable[str]) -> list[str]:
        """Order clients by falling number of training samples, then by name."""
        return sorted(names, key=lambda name: (-self.state.clients[name].train_samples, name))

    def task(self, name: str, server_round: int) -> Task:
        """Return the common part of a request to `name`."""
        state = self.state
        return Task(name, server_round, state.class_names, state.image_shape, state.pixel_scale)

    def initial_model(self, *, dual: bool) -> ClusterModel:
        """Make the run's model with its common random start.

        Raises
        ------
        ModelError
            The setting ``model`` names nothing that can be used.
        """
        return build_model(
            self.settings.model,
            self.state.image_shape,
            len(self.state.class_names),
            dual=dual,
            seed=self.settings.seed,
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

    def _without_outliers(self, replies: dict[str, TrainReply]) -> dict[str, TrainReply]:
        """Leave out replies with an update that is absurdly longer than the round's others.

        One finite but huge update would spoil its cluster's model for good. The yardstick is the
        lower median, a part, over all replies of the round.
        """
        lengths = {
            name: {
                part: distance(weights, self._requests[name].parts[part])
                for part, weights in reply.parts.items()
            }
            for name, reply in replies.items()
        }
        for part in sorted({part for each in lengths.values() for part in each}):
            ordered = sorted(each[part] for each in lengths.values() if part in each)
            limit = self.settings.max_update_ratio * ordered[(len(ordered) - 1) // 2]
            for name in [
                n for n in replies if part in lengths[n] and not lengths[n][part] <= limit
            ]:
                logger.warning(
                    "train: client %s is left out: its update of %s has length %.3g, more than "
                    "max-update-ratio = %g times the median",
                    name, part, lengths.pop(name)[part], self.settings.max_update_ratio,
                )  # fmt: skip
                replies = {other: reply for other, reply in replies.items() if other != name}
        return replies

    def _note_lost(self, server_round: int, replies: Mapping[str, TrainReply]) -> None:
        """Record who was asked in vain, and the clusters that stay as they were for it."""
        lost = sorted(self._asked - set(replies))
        self._rounds_with_replies += bool(replies)
        self._line |= {"clusters": self.state.num_clusters, "replied": len(replies), "lost": lost}
        asked = {self.state.assignments[name] for name in self._requests}
        answered = {self.state.assignments[name] for name in replies}
        for cluster in sorted(asked - answered):
            logger.warning(
                "round %d: cluster %d has no valid reply and stays as it was", server_round, cluster
            )

    def _note_metrics(
        self, scope: str, evaluations: Mapping[str, Evaluation]
    ) -> MetricRecord | None:
        overall = mean_over_clients(evaluations.values())
        by_cluster = {
            str(cluster): mean_over_clients(
                evaluation
                for name, evaluation in evaluations.items()
                if self.state.assignments[name] == cluster
            )
            for cluster in sorted({self.state.assignments[name] for name in evaluations})
        }
        self._line[scope] = {
            "overall": overall,
            "by-cluster": by_cluster,
            "by-client": {
                name: {
                    "balanced-accuracy": evaluation.balanced_accuracy,
                    "accuracy": evaluation.accuracy,
                    "samples": evaluation.samples,
                }
                for name, evaluation in evaluations.items()
                if evaluation.samples
            },
        }
        return MetricRecord(dict(overall)) if evaluations else None
