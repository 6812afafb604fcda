"""The run of every algorithm with one model a cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from itertools import chain
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from feddag_flwr.checkpoints import (
    CHECKPOINTS,
    Checkpoint,
    CheckpointError,
    CheckpointFolder,
    CheckpointWriteError,
    lasting_settings,
)
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.exchange import Exchange, kind_of
from feddag_flwr.metrics import Evaluation, mean_over_clients
from feddag_flwr.records import (
    EvaluateReply,
    EvaluateRequest,
    RecordError,
    TrainReply,
    TrainRequest,
)
from feddag_flwr.report import (
    Progress,
    closing_summary,
    print_closing_table,
)
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings, class_list
from feddag_flwr.state import Client, ServerState
from feddag_flwr.strategies.algorithm import Algorithm, listed
from feddag_flwr.strategies.client_registry import (
    JOIN_POLL,
    MIN_CLIENTS,
    FederationError,
    await_nodes,
    client_of,
    merge_class_names,
    register_clients,
    sample_scale,
)
from feddag_flwr.strategies.idle_settings import tell_of_settings
from feddag_flwr.strategies.joins import Joins
from feddag_flwr.strategies.notes import evaluations_from_json, evaluations_to_json
from feddag_flwr.strategies.outliers import mean_lengths, without_outliers
from feddag_flwr.strategies.round_log import RoundLog
from feddag_flwr.traffic import Traffic

logger = logging.getLogger("flwr")


class ClusteredStrategy(Algorithm, Strategy):
    """Runs an algorithm: messages, checks, who comes and goes, evaluation, checkpoints.

    Parameters
    ----------
    settings : Settings
        The run's settings.
    folder : RunFolder
        Where the run leaves its files.
    checkpoint : Checkpoint, optional
        Where a stopped run stood, which goes on from there.

    Attributes
    ----------
    evaluations : dict of str to Evaluation
        The last evaluation of all clients, by client name.
    placements : dict of str to int
        Cluster of each client unseen in training, once it has been found.
    """

    def __init__(
        self, settings: Settings, folder: RunFolder, checkpoint: Checkpoint | None = None
    ) -> None:
        super().__init__(settings, folder)
        self.log = RoundLog(folder)
        self.joins = Joins(self)
        self.evaluations: dict[str, Evaluation] = {}
        self.placements: dict[str, int] = {}
        self.held_out_evaluations: dict[str, Evaluation] = {}
        self._checkpoint = checkpoint
        self._judged: dict[str, EvaluateRequest] = {}
        self._rounds_with_replies = 0

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
        """Run the algorithm from the roll call, or from a checkpoint, to the closing table.

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
            Metrics by round. The cluster models are in ``state`` and in the run's checkpoints.

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
        self.wait = self.settings.round_timeout if timeout is None else timeout
        self.exchange = Exchange(grid, self.settings.wave_size, self.registry.name_of)
        try:
            return self._run(rounds)
        finally:
            self.folder.release()

    def _run(self, rounds: int) -> Result:
        """Do all rounds, or those that are left."""
        result = Result()
        if self._checkpoint is None:
            self._open()
            if rounds == 0:
                self._evaluate(0, result, last=True)
            self._finish_round(0, last=rounds == 0)
        else:
            self._go_on(self._checkpoint)
        first = self.state.server_round + 1
        progress = Progress(rounds, first)
        for server_round in range(first, rounds + 1):
            last = server_round == rounds
            self._await_clients(server_round)
            self._train(server_round, result)
            if last or server_round % self.settings.evaluate_every == 0:
                self._evaluate(server_round, result, last=last)
            progress.show(server_round, self.state.num_clusters, self.log.line)
            self._finish_round(server_round, last=last)
        self._close()
        if rounds and not self._rounds_with_replies:
            raise FederationError(f"no client sent a valid reply in any of {rounds} rounds")
        return result

    def _open(self) -> None:
        """Call the roll and form the clusters: all that comes before the first round."""
        tell_of_settings(self.settings)
        with self.watch.phase("registration"):
            descriptions = register_clients(self.exchange, self.settings, self.registry)
        self.folder.open()
        self.summary()
        held_out = self._draw_unseen([each.client for each in descriptions])
        seen = [each for each in descriptions if each.client not in held_out]
        self.held_out = {
            each.client: client_of(each) for each in descriptions if each.client in held_out
        }
        self.true_groups = {
            each.client: each.true_group for each in descriptions if each.true_group is not None
        }
        self.state = ServerState(
            class_names=merge_class_names(seen, class_list(self.settings.class_names)),
            sample_shape=seen[0].sample_shape,
            sample_scale=sample_scale(seen, standardise=self.settings.standardise),
            clients={each.client: client_of(each) for each in seen},
        )
        self.form_clusters()
        self.log.line["clusters"] = self.state.num_clusters

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint, and learn which nodes the clients are on now."""
        self.summary()
        notes = checkpoint.notes
        self.state = checkpoint.state
        self.held_out = {each["name"]: Client(**each) for each in notes["held-out"]}
        self.true_groups = notes["true-groups"]
        self.drifted = set(notes["drifted"])
        self.evaluations = evaluations_from_json(notes["evaluations"])
        self.held_out_evaluations = evaluations_from_json(notes["held-out-evaluations"])
        self.placements = notes["placements"]
        self._rounds_with_replies = notes["rounds-with-replies"]
        self.log.go_on(notes["bytes"], self.state)
        try:
            self.load_state_dict(checkpoint.memory)
        except KeyError as error:
            raise CheckpointError(
                f"the checkpoint lacks {error}: it is of another version of this app"
            ) from error
        with self.watch.phase("registration"):
            there = set(await_nodes(self.exchange, self.settings, len(notes["nodes"]), enough=0))
            for name, node in notes["nodes"].items():
                if self.registry.bound or node in there:  # else it may have another id by now
                    self.registry.claim(name, node, there)
            self.joins.meet(self.state.server_round, notes.get("delays", []))
        self.exchange.traffic.take()
        logger.info("the run goes on after round %d", self.state.server_round)

    def _await_clients(self, server_round: int) -> None:
        """Wait until somebody is there who can train, ``join-timeout`` seconds at most.

        Meanwhile clients can come in, so that a round that nobody could train in is none. Pauses
        are counted in rounds, and none passes: so all are asked once more before the end.

        Raises
        ------
        FederationError
            Nobody came; the run can be resumed.
        """
        deadline = time.monotonic() + self.settings.join_timeout
        pauses = True
        while True:
            there = set(self.exchange.nodes())
            settled = self.state.assignments.keys() - self.drifted
            if any(self.registry.nodes.get(name) in there for name in settled):
                return
            over = time.monotonic() >= deadline
            if over and not pauses:
                raise FederationError(
                    f"no client was there for {self.settings.join_timeout:g} s (setting "
                    "join-timeout) that could train; go on with "
                    f"resume = {str(self.folder.path)!r}"
                )
            pauses = not over
            questions = list(self.joins.questions(server_round, pauses=pauses))
            if questions:
                replies = self.exchange.send(
                    questions, self.wait, self.joins.follow_ups, patience=self._patience
                )
                for reply in self.joins.take(replies):
                    logger.warning("%s: nobody was asked for that", kind_of(reply))
                self._settle_newcomers()
            elif pauses:
                time.sleep(JOIN_POLL)

    def _train(self, server_round: int, result: Result) -> None:
        grid, joins = self.exchange.grid, self.joins
        with self.watch.phase("train"):
            # Questions come last: a node that never answers must not keep others from training.
            messages = chain(
                self.configure_train(server_round, ArrayRecord(), ConfigRecord(), grid),
                joins.questions(server_round),
            )
            replies = self.exchange.send(
                messages, self.wait, joins.follow_ups, patience=self._patience
            )
            _, metrics = self.aggregate_train(server_round, joins.take(replies))
            self._settle_newcomers()
        if metrics is not None:
            result.train_metrics_clientapp[server_round] = metrics

    @property
    def _patience(self) -> dict[str, float]:
        """Seconds to wait for those who come in, where they differ from a round's."""
        return {
            "describe": min(self.wait, self.settings.join_timeout),
            "profile": self.settings.profile_timeout,
        }

    def _settle_newcomers(self) -> None:
        self.joins.settle()
        if self.joins.placed:
            self.log.line["placed"] = self.log.line.get("placed", {}) | self.joins.placed

    def _draw_unseen(self, names: list[str]) -> set[str]:
        """Draw the clients that training never sees; two at least stay."""
        count = min(round(self.settings.unseen_share * len(names)), len(names) - MIN_CLIENTS)
        chosen = generator(self.settings.seed, "draw-held_out").permutation(len(names))[:count]
        return {names[index] for index in chosen}

    def _evaluate(self, server_round: int, result: Result, *, last: bool) -> None:
        grid = self.exchange.grid
        with self.watch.phase("evaluate"):
            self.before_evaluation(server_round, self.connected(sorted(self.state.assignments)))
            tune = self.settings.fine_tune_epochs if last else 0
            config = ConfigRecord({"fine-tune-epochs": tune})
            messages = self.configure_evaluate(server_round, ArrayRecord(), config, grid)
            metrics = self.aggregate_evaluate(server_round, self.exchange.send(messages, self.wait))
            if last and self.held_out:
                self._evaluate_held_out(server_round, tune)
        if metrics is not None:
            result.evaluate_metrics_clientapp[server_round] = metrics

    def _evaluate_held_out(self, server_round: int, tune: int) -> None:
        """Place the clients that training never saw, and judge them by the final models."""
        names = self.connected(sorted(self.held_out))
        kept = self.state.assignments
        self.placements = self.place_held_out(server_round, names)
        self.state.assignments = kept | self.placements
        messages = self._ask_to_evaluate(server_round, sorted(self.placements), tune)
        judged, personalised = self._judgements(self.exchange.send(messages, self.wait))
        self.held_out_evaluations = judged
        self.log.note_evaluations("held-out", judged, self.state.assignments)
        if tune:
            self.log.note_evaluations("held-out-personalised", personalised, self.state.assignments)
        self.state.assignments = kept

    def _finish_round(self, server_round: int, *, last: bool) -> None:
        """Write the round's line and, where it is due, a checkpoint."""
        if self.drifted:
            self.log.line["drifted"] = sorted(self.drifted)
        traffic = self.exchange.traffic.take()
        if not self.counts_traffic:
            traffic = Traffic().take()
        due = last or server_round % self.settings.checkpoint_every == 0
        with self.watch.phase("checkpoint"):
            self.log.write(server_round, self.state, traffic)
            if due:
                self._write_checkpoint()
        self.log.write_seconds(server_round, self.watch.take())

    def _write_checkpoint(self) -> None:
        """Write a checkpoint; one that cannot be written costs a log line and never the round."""
        notes: dict[str, Any] = {
            "nodes": dict(sorted(self.registry.nodes.items())),
            "held-out": [asdict(client) for client in self.held_out.values()],
            "true-groups": dict(sorted(self.true_groups.items())),
            "drifted": sorted(self.drifted),
            "delays": self.joins.delays(),
            "evaluations": evaluations_to_json(self.evaluations),
            "held-out-evaluations": evaluations_to_json(self.held_out_evaluations),
            "placements": self.placements,
            "rounds-with-replies": self._rounds_with_replies,
            "bytes": self.log.totals,
        }
        checkpoint = Checkpoint(
            self.state.server_round,
            lasting_settings(self.settings),
            self.state,
            self.state_dict(),
            notes,
        )
        try:
            self._checkpoints.write(checkpoint)
        except CheckpointWriteError as error:
            logger.error("%s; the run goes on, and would go back to an older one", error)

    @cached_property
    def _checkpoints(self) -> CheckpointFolder:
        return CheckpointFolder(self.folder.path / CHECKPOINTS, self.settings.keep_checkpoints)

    def _close(self) -> None:
        summary = closing_summary(self.state, self.evaluations, self.true_groups, self.log.totals)
        if self.held_out:
            summary["held-out"] = {
                "placements": self.placements,
                "adjusted-rand-index": adjusted_rand_index(self.placements, self.true_groups),
                **mean_over_clients(self.held_out_evaluations.values()),
            }
        self.folder.try_to_write_json("summary.json", summary)
        print_closing_table(summary, self.folder.path)

    # -- Flower's steps of a round -----------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Draw the round's clients and yield one request each, the largest client first.

        So nobody waits for a large client that started last. `arrays` and `config` are part of
        Flower's interface; models and values are ``state``'s.
        """
        del arrays, config, grid
        sampled = self.sample_clients(server_round)
        connected = self.connected(sampled)
        self.log.line["sampled"] = sampled
        self.requests = {}
        self.before_round(server_round, connected)
        self.asked = {name for name in sampled if self.phases_for(server_round, name)}
        for name in self.largest_first(connected):
            if not (phases := self.phases_for(server_round, name)):
                continue
            candidates = tuple(dict(model) for model in self.candidates_for(name))
            request = TrainRequest(
                self.header(name, server_round),
                {} if candidates else self.parts_for(name, phases),
                phases,
                self.local_training_for(server_round, name),
                candidates,
                self.prior_for(name),
            )
            self.requests[name] = request
            yield self.message(name, request.encode(), MessageType.TRAIN, server_round)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, aggregate the good ones in the order of names, and sum up metrics."""
        checked: dict[str, TrainReply] = {}
        for reply in replies:
            name = self.registry.name_of(reply.metadata.src_node_id)
            if (request := self.requests.get(name)) is None:
                logger.warning("train: %s was not asked in round %d", name, server_round)
                continue
            try:
                checked[name] = self.read_train_reply(reply.content, request)
            except RecordError as error:
                logger.warning("train: client %s is left out: %s", name, error)
        ordered = without_outliers(
            {name: checked[name] for name in sorted(checked)},
            self.requests,
            self.settings.max_update_ratio,
        )
        self._note_lost(ordered)
        self.log.line["update-lengths"] = mean_lengths(ordered, self.requests)
        for name, each in ordered.items():
            self._note_client(name, each.samples, each.received, drifted=each.drifted)
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
        del arrays, grid
        names = self.connected(sorted(self.state.assignments))
        return self._ask_to_evaluate(server_round, names, int(str(config["fine-tune-epochs"])))

    def _ask_to_evaluate(
        self, server_round: int, names: Iterable[str], tune: int
    ) -> Iterator[Message]:
        self._judged = {}
        for name in names:
            request = EvaluateRequest(
                self.header(name, server_round),
                self.parts_to_evaluate(name),
                self.adapt_epochs,
                tune,
            )
            self._judged[name] = request
            yield self.message(name, request.encode(), MessageType.EVALUATE, server_round)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Check the replies and sum up metrics of all clients."""
        del server_round
        self.evaluations, personalised = self._judgements(replies)
        if personalised:
            self.log.note_evaluations("personalised", personalised, self.state.assignments)
        return self.log.note_evaluations("all", self.evaluations, self.state.assignments)

    def _judgements(
        self, replies: Iterable[Message]
    ) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
        """Check replies to `_ask_to_evaluate`: as judged, and after fine-tuning; by name."""
        found: dict[str, EvaluateReply] = {}
        for reply in replies:
            name = self.registry.name_of(reply.metadata.src_node_id)
            if (request := self._judged.get(name)) is None:
                logger.warning("evaluate: %s was not asked", name)
                continue
            try:
                found[name] = EvaluateReply.decode(
                    reply.content,
                    request.header,
                    limit=self.settings.max_client_samples,
                    personalised=request.personalisation_epochs > 0,
                )
            except RecordError as error:
                logger.warning("evaluate: client %s is left out: %s", name, error)
        ordered = {name: found[name] for name in sorted(found)}
        for name, judged in ordered.items():
            samples = self.client(name).train_samples
            self._note_client(name, samples, judged.evaluation, drifted=judged.drifted)
        evaluations = {name: each.evaluation for name, each in ordered.items()}
        return evaluations, {
            name: each.personalised for name, each in ordered.items() if each.personalised
        }

    def summary(self) -> None:
        """Log what runs, and where its files go."""
        logger.info("%s on %s", type(self).__name__, self.settings.source)
        logger.info("run folder: %s", self.folder.path)

    def _note_client(
        self, name: str, train_samples: int, tested: Evaluation | None, *, drifted: bool
    ) -> None:
        """Take over how much data a client has now, and whether it has drifted."""
        if name in self.held_out:
            return
        before = self.state.clients[name]
        test_samples = tested.samples if tested else before.test_samples
        now = replace(before, train_samples=train_samples, test_samples=test_samples)
        if now != before:
            logger.info("client %s has %d training samples now", name, train_samples)
            self.state.admit(now)
        if drifted and name not in self.drifted:
            logger.warning("client %s has drifted: it will be placed anew", name)
            self.drifted.add(name)

    def _note_lost(self, replies: Mapping[str, TrainReply]) -> None:
        """Record who was asked in vain, and the clusters that stay as they were for it."""
        lost = sorted(self.asked - set(replies))
        if lost:
            logger.warning("no valid reply from %s", listed(lost))
        self._rounds_with_replies += bool(replies)
        self.log.line |= {
            "clusters": self.state.num_clusters,
            "replied": len(replies),
            "failed": lost,
        }
