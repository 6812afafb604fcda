"""A round of training: requests out, checked replies in, and who may come in meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from flwr.app import MetricRecord

from feddag_flwr.algorithms.algorithm import Algorithm, RoundPlan, RoundReplies
from feddag_flwr.engine.joins import Joins
from feddag_flwr.engine.round_report import RoundReport
from feddag_flwr.federation.context import FederationContext, listed
from feddag_flwr.federation.exchange import Letter
from feddag_flwr.federation.outliers import mean_lengths, without_outliers
from feddag_flwr.metrics import Evaluation
from feddag_flwr.postprocessors.chain import Postprocessors
from feddag_flwr.records import RecordError, TrainReply

logger = logging.getLogger("flwr")


class TrainingRound:
    """Runs the rounds' training.

    Parameters
    ----------
    context : FederationContext
        The federation.
    algorithm : Algorithm
        Plans a round and updates the models.
    joins : Joins
        Asks who comes in within the same exchange.
    report : RoundReport
        Takes what is to be said of the round.

    Attributes
    ----------
    answered : bool
        Whether somebody sent a valid reply in the last round, or nobody had to.
    postprocessors : Postprocessors
        What becomes of replies before anything else sees them.
    """

    def __init__(
        self, context: FederationContext, algorithm: Algorithm, joins: Joins, report: RoundReport
    ) -> None:
        self._context = context
        self._algorithm = algorithm
        self._joins = joins
        self._report = report
        self.answered = True
        self.postprocessors = Postprocessors.of(context.settings.run.postprocessors)

    def run(self, server_round: int) -> MetricRecord | None:
        """Do one round; return the participants' mean metrics of the models that they received."""
        plan = self._algorithm.plan_round(server_round)
        self._report.line["sampled"] = plan.sampled
        replies = self._exchange(server_round, plan)
        found = RoundReplies(server_round, plan, self._usable(server_round, replies))
        self._note(found)
        with self._context.phase("aggregate"):
            self._algorithm.update(found)
        state = self._context.state
        state.server_round = server_round
        received = {name: each.received for name, each in found.replies.items() if each.received}
        metrics = self._report.note_evaluations("participants", received, state.assignments)
        self._joins.place()
        if self._joins.placed:
            placed = self._report.line.get("placed", {})
            self._report.line["placed"] = placed | self._joins.placed
        return metrics

    def _exchange(self, server_round: int, plan: RoundPlan) -> dict[str, TrainReply]:
        """Ask participants, the largest first, then those who may come in.

        So nobody waits for a large client that started last, and a node that never says who it is
        keeps nobody from training.
        """
        context, joins = self._context, self._joins
        letters = chain(self._letters(plan), joins.questions(server_round))
        replies: dict[str, TrainReply] = {}
        for letter, reply in context.exchange.stream(
            letters,
            context.round_timeout,
            joins.follow_ups,
            patience=joins.patience,
            refuse=self._refuse,
        ):
            if not joins.take(letter, reply):
                replies[context.clients.name_of(letter.node_id)] = reply
        return replies

    def _letters(self, plan: RoundPlan) -> Iterator[Letter]:
        for name in self._context.largest_first(plan.requests):
            yield self._context.exchange.to_client(plan.requests[name])

    def _refuse(self, letter: Letter, reason: RecordError) -> None:
        if not self._joins.refuse(letter, reason):
            self._context.exchange.leave_out(letter, reason)

    def _usable(self, server_round: int, replies: dict[str, TrainReply]) -> dict[str, TrainReply]:
        processed = self.postprocessors.on_server(replies, server_round)
        return without_outliers(processed, self._context.settings.deployment.max_update_ratio)

    def _note(self, found: RoundReplies) -> None:
        """Record who was asked in vain, how far updates went, and what clients have now."""
        failed = sorted(found.plan.asked - set(found.replies))
        if failed:
            logger.warning("no valid reply from %s", listed(failed))
        self.answered = bool(found.replies) or not found.plan.asked
        self._report.line |= {
            "clusters": self._context.state.num_clusters,
            "replied": len(found.replies),
            "failed": failed,
            "update-lengths": mean_lengths(found.replies),
        }
        for name, reply in found.replies.items():
            note_client(self._context, name, reply.samples, reply.received, drifted=reply.drifted)


def note_client(
    context: FederationContext,
    name: str,
    train_samples: int,
    tested: Evaluation | None,
    *,
    drifted: bool,
) -> None:
    """Take over how much data a client has now, and whether it has drifted."""
    if name in context.held_out:
        return
    before = context.state.clients[name]
    test_samples = tested.samples if tested else before.test_samples
    now = replace(before, train_samples=train_samples, test_samples=test_samples)
    if now != before:
        logger.info("client %s has %d training samples now", name, train_samples)
        context.state.admit(now)
    if drifted and name not in context.drifted:
        logger.warning("client %s has drifted: it will be placed anew", name)
        context.drifted.add(name)
