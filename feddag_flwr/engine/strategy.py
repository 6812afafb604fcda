"""The Flower strategy: registration, clusters, rounds, evaluation, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, NoReturn

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.checkpoints import Checkpoint
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.data.settings import class_list
from feddag_flwr.engine.best_round import BestRound
from feddag_flwr.engine.comparison import Comparison
from feddag_flwr.engine.evaluation import Evaluator
from feddag_flwr.engine.idle_settings import tell_of_settings
from feddag_flwr.engine.joins import Joins
from feddag_flwr.engine.registration import (
    JOIN_POLL,
    agreed_spec,
    client_of,
    merge_class_names,
    register_clients,
    sample_scale,
)
from feddag_flwr.engine.resumption import checkpoint_of, resume
from feddag_flwr.engine.round_report import (
    RoundReport,
    as_json,
    closing_summary,
    left_out_at_the_end,
)
from feddag_flwr.engine.training import TrainingRound
from feddag_flwr.engine.watchers import Watchers
from feddag_flwr.federation.context import FederationContext, listed
from feddag_flwr.federation.errors import MIN_CLIENTS, FederationError
from feddag_flwr.federation.exchange import Exchange
from feddag_flwr.metrics import load_metrics, mean_over_clients, metric_names
from feddag_flwr.modalities import load_modality
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.freezing import freeze, unknown_layers
from feddag_flwr.models.sample_by_sample import check_sample_by_sample
from feddag_flwr.observers import RoundOver, RunOver, RunStarted
from feddag_flwr.registry import name_list
from feddag_flwr.run_folder import SUMMARY, RunFolder
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.state import ServerState
from feddag_flwr.traffic import Traffic

logger = logging.getLogger("flwr")

# Rounds in a row without any valid reply after which the run ends: nodes can be connected and dead.
SILENT_ROUNDS = 3


class ClusteredStrategy(Strategy):
    """Runs an algorithm on a federation whose clusters have a model each."""

    def __init__(
        self,
        context: FederationContext,
        algorithm: Algorithm,
        observers: Watchers,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.context = context
        self.algorithm = algorithm
        self.observers = observers
        self.report = RoundReport()
        self.joins = Joins(context, algorithm)
        self.evaluator = Evaluator(context, algorithm, self.report)
        self.training = TrainingRound(context, algorithm, self.joins, self.report)
        self.comparison = Comparison(context, algorithm)
        self.best = BestRound(context, algorithm)
        self.rounds_with_replies = 0
        self._silent_rounds = 0
        self._checkpoint = checkpoint

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.context.settings

    @property
    def state(self) -> ServerState:
        """Clients, assignments and cluster models."""
        return self.context.state

    @property
    def folder(self) -> RunFolder:
        """Where the run leaves its files."""
        return self.context.folder

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
        """Run the algorithm from registration, or from a checkpoint, to the closing table.

        `num_rounds` and `timeout` take the place of the settings ``num-rounds`` and
        ``round-timeout``. What else Flower takes is for one global model, and refused. The result
        has metrics by round; cluster models are in ``state`` and in the run's checkpoints.

        Raises
        ------
        FederationError
            Too few clients came, too few could be used, or nobody sends valid replies any more.
        ValueError
            An argument that has no meaning here was given.
        """
        if initial_arrays or train_config or evaluate_config or evaluate_fn is not None:
            raise ValueError("a clustered strategy takes no global model, config or evaluate_fn")
        context, settings = self.context, self.settings
        rounds = settings.run.num_rounds if num_rounds is None else num_rounds
        if settings.privacy.training_on and rounds > settings.run.num_rounds:
            raise ValueError(f"training-epsilon is for num-rounds = {settings.run.num_rounds}")
        context.round_timeout = settings.deployment.round_timeout if timeout is None else timeout
        context.exchange = Exchange(
            grid, settings.deployment.max_in_flight, context.clients, context.limits()
        )
        try:
            return self._run(rounds)
        finally:
            context.folder.release()

    def _run(self, rounds: int) -> Result:
        """Do all rounds, or those that are left."""
        result = Result()
        self.comparison.num_rounds = rounds
        if self._checkpoint is None:
            self._open()
            self._started(rounds, 1)
            if rounds == 0:
                self._evaluate(0, result, last=True)
            self._finish_round(0, last=rounds == 0)
        else:
            self.summary()
            resume(self, self._checkpoint)
            self._started(rounds, self.state.server_round + 1)
        for server_round in range(self.state.server_round + 1, rounds + 1):
            if self._do_round(server_round, result, last=server_round == rounds):
                break
        self._close(rounds)
        return result

    def _open(self) -> None:
        """Register the clients and form the clusters: all that comes before the first round."""
        context, settings = self.context, self.settings
        tell_of_settings(settings)
        with context.phase("registration"):
            descriptions = register_clients(context.exchange, settings, context.clients)
        context.folder.open()
        self.summary()
        held_out = self._draw_held_out([described.client for described in descriptions])
        seen = [described for described in descriptions if described.client not in held_out]
        context.held_out = {
            described.client: client_of(described)
            for described in descriptions
            if described.client in held_out
        }
        context.true_groups = {
            described.client: described.true_group
            for described in descriptions
            if described.true_group is not None
        }
        spec = agreed_spec(seen, settings.data.modality)
        context.state = ServerState(
            class_names=merge_class_names(seen, class_list(settings.data.class_names)),
            sample_shape=spec.shape,
            sample_scale=sample_scale(
                seen, standardise=settings.data.standardise, modality=settings.data.modality
            ),
            sample_details=spec.details,
            clients={described.client: client_of(described) for described in seen},
        )
        self.begin_algorithm()
        self.algorithm.begin()
        self.report.line["clusters"] = self.state.num_clusters

    def begin_algorithm(self) -> None:
        """Let replies be checked against the run's model, and requests ask for drift."""
        context = self.context
        model = context.bare_model(dual=True)
        if self.settings.privacy.training_on:
            self._check_private_training(model)
        frozen = name_list(self.settings.training.frozen_layers)
        if unknown := unknown_layers(model, frozen):
            names = [name for name, _ in model.primary.named_parameters()]
            raise FederationError(
                f"setting frozen-layers = {', '.join(frozen)!r}: the encoder has no "
                f"{', '.join(unknown)}, must begin names of its parameters: {listed(names)}"
            )
        context.exchange.limits = context.limits(model)
        context.reference_of = self.algorithm.reference_of
        context.usable = self.training.usable
        context.looks_of = self.algorithm.looks_of

    def _check_private_training(self, model: ClusterModel) -> None:
        """Say how clients train privately; a `ModelError` says that their encoder cannot."""
        assert self.context.ledger is not None
        plan = self.context.ledger.costs.training
        assert plan is not None
        logger.info("%s", plan.in_words())
        settings = self.settings
        freeze(model, name_list(settings.training.frozen_layers))
        example = load_modality(settings.data.modality).example(self.state.spec, 2)
        check_sample_by_sample(settings.training.model, model.primary, example)

    def _started(self, rounds: int, first: int) -> None:
        metrics = load_metrics(metric_names(self.settings.run.metrics))
        event = RunStarted(self.settings, self.context.folder, metrics, first, rounds)
        self.observers.tell(lambda observer: observer.run_started(event))

    def _do_round(self, server_round: int, result: Result, *, last: bool) -> bool:
        """Train and judge; return whether it was the last round."""
        self._await_clients(server_round)
        with self.context.phase("train"):
            metrics = self.training.run(server_round)
        if metrics is not None:
            result.train_metrics_clientapp[server_round] = metrics
        self.rounds_with_replies += bool(self.report.line["replied"])
        self._silent_rounds = 0 if self.training.answered else self._silent_rounds + 1
        if last or server_round % self.settings.run.evaluate_every == 0:
            last = self._look(server_round, last=last)
            self._evaluate(server_round, result, last=last)
        if self.comparison.on:
            self._compare(server_round, last=last)
        self._finish_round(server_round, last=last)
        if self._silent_rounds >= SILENT_ROUNDS:
            raise FederationError(
                f"nobody has sent a valid reply in {SILENT_ROUNDS} rounds on end, though nodes are "
                f"connected; go on with resume = {str(self.context.folder.path)!r}"
            )
        return last

    def _look(self, server_round: int, *, last: bool) -> bool:
        """Look at the models on data held back; return whether the run is to end."""
        if not self.best.on:
            return last
        with self.context.phase("validate"):
            self.report.line["validation"] = self.best.look(server_round)
        if self.best.is_over and not last:
            logger.info("the run ends after round %d: patience is over", server_round)
            last = True
        if last:
            self.best.keep(server_round)
        return last

    def _compare(self, server_round: int, *, last: bool) -> None:
        """Train the models that the run is compared with; judge them after the last round."""
        comparison, line = self.comparison, self.report.line
        with self.context.phase("compare"):
            trained = comparison.after_round(server_round, self.training.encoders)
            judged = (
                comparison.judge(server_round, sorted(self.evaluator.evaluations)) if last else {}
            )
        if trained:
            line["comparison"] = trained
        if judged:
            line["comparison-at-the-end"] = judged

    def _await_clients(self, server_round: int) -> None:
        """Wait until somebody is there who can train, ``join-timeout`` seconds at most.

        Meanwhile clients can come in, so that a round that nobody could train in is none. Pauses
        are counted in rounds, and none passes: so all are asked once more before the run ends.
        """
        context, seconds = self.context, self.settings.deployment.join_timeout
        deadline = time.monotonic() + seconds
        pauses = True
        while True:
            there = set(context.exchange.nodes())
            settled = self.state.assignments.keys() - context.drifted
            if any(context.clients.nodes.get(name) in there for name in settled):
                return
            over = time.monotonic() >= deadline
            if over and not pauses:
                raise FederationError(
                    f"no client was there for {seconds:g} s (setting join-timeout) that could "
                    f"train; go on with resume = {str(context.folder.path)!r}"
                )
            pauses = not over
            if questions := list(self.joins.questions(server_round, pauses=pauses)):
                list(self.joins.stream(questions))
                self.report.note_placed(self.joins.place())
            elif pauses:
                time.sleep(JOIN_POLL)

    def _draw_held_out(self, names: list[str]) -> set[str]:
        """Draw the clients that training never sees; two at least stay."""
        share = self.settings.data.held_out_share
        count = min(round(share * len(names)), len(names) - MIN_CLIENTS)
        if share and not count:
            logger.warning("held-out-share = %g: 0 of the %d clients here", share, len(names))
        chosen = generator(self.settings.run.seed, "draw-unseen").permutation(len(names))[:count]
        return {names[index] for index in chosen}

    def _evaluate(self, server_round: int, result: Result, *, last: bool) -> None:
        epochs = self.settings.run.personalisation_epochs if last else 0
        with self.context.phase("evaluate"):
            metrics = self.evaluator.evaluate_all(server_round, epochs)
            if last and self.context.held_out:
                self.evaluator.evaluate_held_out(server_round, epochs)
        if metrics is not None:
            result.evaluate_metrics_clientapp[server_round] = metrics

    def _finish_round(self, server_round: int, *, last: bool) -> None:
        """Close the round's report, and tell the observers."""
        if self.context.drifted:
            self.report.line["drifted"] = sorted(self.context.drifted)
        self.report.note_unlabelled(self.context.unlabelled)
        traffic = self.context.exchange.traffic.take()
        if not self.algorithm.counts_traffic:
            traffic = Traffic().take()
        line = self.report.close(server_round, self.state, traffic)
        counts = self.training.answered
        event = RoundOver(server_round, line, self.state, last, counts, lambda: checkpoint_of(self))
        with self.context.phase("checkpoint"):
            self.observers.tell(lambda observer: observer.round_over(event))
        seconds = self.context.watch.take()
        self.observers.tell(lambda observer: observer.round_timed(server_round, seconds))

    def _close(self, rounds: int) -> None:
        """Tell the observers of the end; fail if nobody ever replied, or is left to be judged."""
        context, evaluator = self.context, self.evaluator
        evaluations = evaluator.evaluations
        summary = closing_summary(self.state, evaluations, context.true_groups, self.report.totals)
        if context.held_out:
            summary["held-out"] = {
                "placements": evaluator.placements,
                "adjusted-rand-index": adjusted_rand_index(
                    evaluator.placements, context.true_groups
                ),
                **mean_over_clients(evaluator.held_out_evaluations.values()),
            }
        if context.unlabelled:
            summary["unlabelled"] = as_json(context.unlabelled)
        if self.best.on:
            summary["validation"] = self.best.summary()
        if self.comparison.on:
            summary["comparison"] = self.comparison.summary(evaluations)
        if context.ledger is not None:
            summary["privacy"] = context.ledger.summary()
            logger.info("%s", summary["privacy"]["promise"])
        summary |= self.algorithm.summary()
        if left_out := left_out_at_the_end(context, evaluations):
            summary["left-out"] = left_out
        self.observers.tell(lambda observer: observer.run_over(RunOver(summary)))
        if rounds and not self.rounds_with_replies:
            raise FederationError(f"no client sent a valid reply in any of {rounds} rounds")
        if self._silent_rounds and not evaluations:
            raise FederationError(
                f"nobody sent a valid reply in the last {self._silent_rounds} rounds, nor to the "
                f"evaluation; go on with resume = {str(context.folder.path)!r}"
            )
        if left_out and self.settings.run.strict:
            raise FederationError(
                f"something was left out, and strict = true: {', '.join(left_out)}; the closing "
                f"table and {context.folder.path / SUMMARY} say what"
            )

    def summary(self) -> None:
        """Log what runs, and where its files go."""
        logger.info("%s on %s", type(self.algorithm).__name__, self.settings.data.dataset)
        logger.info("run folder: %s", self.context.folder.path)

    # -- Flower's steps, for who drives a round by hand --------------------------------------------

    def configure_train(self, *arguments: Any, **named: Any) -> NoReturn:  # noqa: ANN401
        """Refuse single steps: `start` plans a round, and the exchange sends it."""
        raise RuntimeError("a clustered strategy runs whole, by start(grid)")

    aggregate_train = configure_evaluate = aggregate_evaluate = configure_train
