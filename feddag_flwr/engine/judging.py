"""Members judge each other's updates where an aggregator cannot (setting ``judges``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from feddag_flwr.aggregators import enough_members
from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.federation.reputation import Judgement, Reputation, Verdict
from feddag_flwr.records import Model, TrainReply, ValidationLosses, ValidationLossesRequest
from feddag_flwr.seeds import generator

logger = logging.getLogger("flwr")

BEFORE: Final = 0  # place of the cluster's model among those that a judge is sent


@dataclass
class _Panel:
    """Who judges what in one cluster: its model, the authors' ones, and each judge's authors."""

    before: Model
    after: dict[str, Model] = field(default_factory=dict)
    authors_of: dict[str, list[str]] = field(default_factory=dict)


class Judging:
    """Asks members what updates of their cluster do to their own loss, before these are joined.

    Updates are judged of clusters from which fewer came in a round than the run's aggregator needs
    to outvote a liar (the mean never does), and all of clients in quarantine. ``judges`` members of
    the cluster are drawn for each, of those that are there and not in quarantine themselves; they
    judge on what they hold back, or where clients hold nothing back, on what they train on. An
    update that nobody can judge counts as ever.
    """

    def __init__(self, context: FederationContext, algorithm: Algorithm) -> None:
        self._context = context
        self._algorithm = algorithm
        self._judges = context.settings.deployment.judges
        self._enough = enough_members(context.aggregator)
        self.reputation = Reputation()

    @property
    def on(self) -> bool:
        """Whether updates are judged at all."""
        return self._judges > 0

    def admit(self, names: Sequence[str]) -> None:
        """Put clients on probation that have come in while the others train."""
        if self.on:
            for name in names:
                self.reputation.begin_on_probation(name)

    def accepted(
        self, replies: Mapping[str, TrainReply], server_round: int
    ) -> tuple[dict[str, TrainReply], dict[str, Any]]:
        """Return the replies that count, and what the round's line says of those judged."""
        if not self.on:
            return dict(replies), {}
        verdicts = self._verdicts(replies, server_round)
        others = {n: self._members(self._context.state.assignments[n]) - {n} for n in verdicts}
        harmful = {n for n, v in verdicts.items() if self.reputation.leaves_out(v, others[n])}
        left_out = harmful | self.reputation.quarantined.keys()
        for name, verdict in verdicts.items():
            if name in harmful:
                self._tell_left_out(name, verdict)
            change = self.reputation.note(name, verdict, others[name], left_out=name in harmful)
            _tell_change(name, change)
        left_out |= self.reputation.quarantined.keys()
        told: dict[str, Any] = {}
        if verdicts:
            told["judged"] = {
                n: {"worse": v.worse, "worst": v.worst, "of": v.judges} for n, v in verdicts.items()
            }
        if self.reputation.quarantined:
            told["quarantined"] = sorted(self.reputation.quarantined)
        return {name: reply for name, reply in replies.items() if name not in left_out}, told

    def _members(self, cluster: int) -> set[str]:
        """Return a cluster's members, but for those whose data has drifted."""
        assignments = self._context.state.assignments
        of_cluster = {name for name, where in assignments.items() if where == cluster}
        return of_cluster - self._context.drifted

    def _verdicts(self, replies: Mapping[str, TrainReply], server_round: int) -> dict[str, Verdict]:
        """Ask the judges; return what they say, by author."""
        panels = self._panels(replies, server_round)
        answers: dict[str, ValidationLosses] = self._context.ask(
            self._request(judge, panel, server_round)
            for panel in panels
            for judge in sorted(panel.authors_of)
        )
        verdicts = {}
        for panel in panels:
            for author in panel.after:
                of_author = [
                    _judgement(answers[judge], author, authors)
                    for judge, authors in sorted(panel.authors_of.items())
                    if author in authors and judge in answers
                ]
                verdicts[author] = Verdict.of(of_author)
        return dict(sorted(verdicts.items()))

    def _panels(self, replies: Mapping[str, TrainReply], server_round: int) -> list[_Panel]:
        """Say whose updates are judged by whom."""
        context, state = self._context, self._context.state
        by_cluster: dict[int, list[str]] = {}
        for name in replies:
            by_cluster.setdefault(state.assignments[name], []).append(name)
        panels = []
        for cluster, names in sorted(by_cluster.items()):
            trusted = [name for name in names if name not in self.reputation.quarantined]
            authors = [name for name in names if name not in trusted or len(trusted) < self._enough]
            trusted_members = self._members(cluster) - self.reputation.quarantined.keys()
            members = context.connected(sorted(trusted_members))
            panel = _Panel(dict(state.models[cluster]))
            for author in authors:
                after = self._algorithm.model_after(author, replies[author])
                judges = self._drawn([n for n in members if n != author], author, server_round)
                if after is not None and judges:
                    panel.after[author] = after
                    for judge in judges:
                        panel.authors_of.setdefault(judge, []).append(author)
            if panel.after:
                panels.append(panel)
        return panels

    def _drawn(self, members: list[str], author: str, server_round: int) -> list[str]:
        count = min(self._judges, len(members))
        rng = generator(
            self._context.settings.run.seed, "judges", server_round=server_round, client=author
        )
        return sorted(members[i] for i in rng.choice(len(members), count, replace=False))

    def _request(self, judge: str, panel: _Panel, server_round: int) -> ValidationLossesRequest:
        """Send a judge the cluster's model as it is, and as each of its authors would make it."""
        models = [panel.before, *(panel.after[author] for author in panel.authors_of[judge])]
        same = {
            part
            for part, weights in panel.before.items()
            if all(model[part].equals(weights) for model in models)
        }
        settings = self._context.settings
        return ValidationLossesRequest(
            self._context.header(judge, server_round),
            tuple({p: w for p, w in model.items() if p not in same} for model in models),
            {part: panel.before[part] for part in same},
            settings.training.objective,
            not settings.data.validation_share,
        )

    def _tell_left_out(self, name: str, verdict: Verdict) -> None:
        """Log that an update is left out."""
        reason = (
            f"{verdict.worse} of {verdict.judges} members of its cluster that judged its update "
            "lose by it"
        )
        logger.warning("train: client %s is left out: %s", name, reason)
        self._context.exchange.left_out.note_client(name, "train", reason)


def _judgement(answer: ValidationLosses, author: str, authors: Sequence[str]) -> Judgement:
    """Find an author's model among those that a judge was sent, and those of others."""
    places = {name: 1 + place for place, name in enumerate(authors)}
    others = tuple(place for name, place in places.items() if name != author)
    return Judgement(answer, BEFORE, places[author], others)


def _tell_change(name: str, change: str) -> None:
    """Log that a client's updates count no longer, or count again."""
    if change == "quarantined":
        logger.warning(
            "client %s is in quarantine: its updates harm its cluster more often than others'; "
            "they count again once some on end are harmless",
            name,
        )
    elif change == "back":
        logger.info("client %s: its updates are harmless now, and count again", name)
