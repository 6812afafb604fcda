"""A round of training: requests out, checked replies in, and who may come in meanwhile."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain
from typing import Any

from flwr.app import MetricRecord

from feddag_flwr.algorithms.algorithm import Algorithm, RoundPlan, RoundReplies
from feddag_flwr.engine.joins import Joins
from feddag_flwr.engine.judging import Judging
from feddag_flwr.engine.round_report import RoundReport
from feddag_flwr.federation.context import FederationContext, listed
from feddag_flwr.federation.outliers import mean_lengths, without_outliers
from feddag_flwr.metrics import Evaluation
from feddag_flwr.postprocessors.chain import Postprocessors
from feddag_flwr.records import Drift, PrivateRequest, Request, TrainReply

logger = logging.getLogger("flwr")


class TrainingRound:
    """Runs the rounds' training.

    `answered` says whether somebody sent a valid reply in the last round, or nobody had to;
    `encoders`, by client, how many encoders each has trained in it.
    """

    def __init__(
        self, context: FederationContext, algorithm: Algorithm, joins: Joins, report: RoundReport
    ) -> None:
        self._context = context
        self._algorithm = algorithm
        self._joins = joins
        self._report = report
        self.answered = True
        self.encoders: dict[str, int] = {}
        self.judging = Judging(context, algorithm)
        self.postprocessors = Postprocessors.of(context.settings.run.postprocessors)

    def run(self, server_round: int) -> MetricRecord | None:
        """Do one round; return the participants' mean metrics of the models that they received."""
        plan = self._algorithm.plan_round(server_round)
        self._report.line["sampled"] = plan.sampled
        replies = self._exchange(server_round, plan)
        usable = self.usable(replies, server_round)
        self._note(RoundReplies(server_round, plan, usable))
        with self._context.phase("judge"):
            accepted, told = self.judging.accepted(usable, server_round)
        self._report.line |= told
        round_replies = RoundReplies(server_round, plan, accepted)
        with self._context.phase("aggregate"):
            self._algorithm.update(round_replies)
        self._report.line |= self._algorithm.told()
        state = self._context.state
        state.server_round = server_round
        received = {n: reply.received for n, reply in usable.items() if reply.received}
        metrics = self._report.note_evaluations("participants", received, state.assignments)
        known = set(state.assignments)
        placed = self._joins.place()
        self.judging.admit(sorted(placed.keys() - known))
        self._report.note_placed(placed)
        return metrics

    def _exchange(self, server_round: int, plan: RoundPlan) -> dict[str, TrainReply]:
        """Ask participants, the largest first, then those who may come in.

        So nobody waits for a large client that started last, and a node that never says who it is
        keeps nobody from training.
        """
        context = self._context
        names = context.largest_first(plan.requests)
        requests = (self._counted(plan.requests[name], server_round) for name in names)
        letters = (context.exchange.to_client(request) for request in requests)
        replies = self._joins.stream(chain(letters, self._joins.questions(server_round)))
        return {context.clients.name_of(letter.node_id): reply for letter, reply in replies}

    def _counted(self, request: Request[Any], server_round: int) -> Request[Any]:
        """Count a request to train privately, and say how many samples the client has told."""
        ledger = self._context.ledger
        if ledger is None or ledger.costs.training is None:
            return request
        assert isinstance(request, PrivateRequest)  # other algorithms are refused by setting
        assert request.header is not None
        name = request.header.client
        return request.with_told(ledger.note_training(name, server_round, request.passes))

    def usable(self, replies: dict[str, TrainReply], server_round: int) -> dict[str, TrainReply]:
        """Return replies as postprocessors leave them, but for updates that are far too long."""
        processed = self.postprocessors.on_server(replies, server_round)
        ratio = self._context.settings.deployment.max_update_ratio
        usable = without_outliers(processed, ratio)
        for name in processed.keys() - usable.keys():
            self._context.leave_out_for_length(name, "train")
        return usable

    def _note(self, round_replies: RoundReplies) -> None:
        """Record who was asked in vain, how far updates went, and what clients have now."""
        failed = sorted(round_replies.plan.asked - set(round_replies.replies))
        if failed:
            logger.warning("no valid reply from %s", listed(failed))
        self.answered = bool(round_replies.replies) or not round_replies.plan.asked
        self._report.line |= {
            "clusters": self._context.state.num_clusters,
            "replied": len(round_replies.replies),
            "failed": failed,
            "update-lengths": mean_lengths(round_replies.replies),
        }
        self.encoders = {name: _encoders(reply) for name, reply in round_replies.replies.items()}
        ledger = self._context.ledger
        for name, reply in round_replies.replies.items():
            if ledger is not None and ledger.costs.training is not None:
                ledger.heard(name, round_replies.server_round, reply.samples)
            note_client(self._context, name, reply.samples, reply.received, drifted=reply.drifted)


def _encoders(reply: TrainReply) -> int:
    """Count the encoders that a client has trained: all parts but classifiers."""
    return sum(part.rpartition("/")[2] != "classifier" for part in reply.parts)


def note_client(
    context: FederationContext,
    name: str,
    train_samples: int,
    tested: Evaluation | None,
    *,
    drifted: Drift,
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
        what = "has drifted" if drifted.classes else "has drifted, its looks have changed"
        logger.warning("client %s %s: it will be placed anew", name, what)
        context.drifted.add(name)
