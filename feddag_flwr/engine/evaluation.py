"""Evaluation of the clients' models on their own test data."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import MetricRecord

from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.engine.round_report import RoundReport
from feddag_flwr.engine.training import note_client
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.metrics import Evaluation


class Evaluator:
    """Has clients judge the models that they would use.

    It keeps, by client name, the last evaluations of all clients, those of the clients that
    training never saw (`held_out_evaluations`), and their clusters (`placements`).
    """

    def __init__(
        self, context: FederationContext, algorithm: Algorithm, report: RoundReport
    ) -> None:
        self._context = context
        self._algorithm = algorithm
        self._report = report
        self.evaluations: dict[str, Evaluation] = {}
        self.held_out_evaluations: dict[str, Evaluation] = {}
        self.placements: dict[str, int] = {}

    def evaluate_all(self, server_round: int, personalisation_epochs: int) -> MetricRecord | None:
        """Evaluate every client that has a cluster; return the mean metrics, if there are any."""
        context, state = self._context, self._context.state
        names = context.connected(sorted(state.assignments))
        self._algorithm.prepare_evaluation(server_round, names)
        names = context.connected(sorted(state.assignments))
        self.evaluations, personalised = self._ask(server_round, names, personalisation_epochs)
        if personalised:
            self._report.note_evaluations("personalised", personalised, state.assignments)
        return self._report.note_evaluations("all", self.evaluations, state.assignments)

    def evaluate_held_out(self, server_round: int, personalisation_epochs: int) -> None:
        """Place the clients that training never saw, and judge them by the final models."""
        context, state = self._context, self._context.state
        names = context.connected(sorted(context.held_out))
        seen = state.assignments
        self.placements = self._algorithm.place_held_out(server_round, names)
        state.assignments = seen | self.placements
        judged, personalised = self._ask(
            server_round, sorted(self.placements), personalisation_epochs
        )
        self.held_out_evaluations = judged
        self._report.note_evaluations("held-out", judged, state.assignments)
        if personalisation_epochs:
            self._report.note_evaluations("held-out-personalised", personalised, state.assignments)
        state.assignments = seen

    def _ask(
        self, server_round: int, names: Iterable[str], personalisation_epochs: int
    ) -> tuple[dict[str, Evaluation], dict[str, Evaluation]]:
        """Return evaluations by client: as judged, and personalised where that was asked for."""
        context = self._context
        replies = context.ask(
            self._algorithm.evaluate_request(server_round, name, personalisation_epochs)
            for name in names
        )
        for name, reply in replies.items():
            samples = context.client(name).train_samples
            note_client(context, name, samples, reply.evaluation, drifted=reply.drifted)
        judged = {name: reply.evaluation for name, reply in replies.items()}
        personalised = {n: reply.personalised for n, reply in replies.items() if reply.personalised}
        return judged, personalised
