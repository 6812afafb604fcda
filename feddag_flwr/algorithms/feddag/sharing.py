"""Who trains whose secondary encoder S, and how a cluster's S takes in what was trained."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, mean, shift
from feddag_flwr.aggregators import Aggregator
from feddag_flwr.algorithms.feddag.clustering_result import ClusteringResult
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.agreement import Agreement, AgreementWatch
from feddag_flwr.clustering.complementarity import Complementarity
from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.federation.context import listed
from feddag_flwr.records import TrainReply
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.state import ServerState

logger = logging.getLogger("flwr")

# Coordinates of an update of S that agreement is measured on: bounds the memory of a round.
AGREEMENT_COORDINATES = 20_000


class Sharing:
    """The teachers of each cluster's secondary encoder, as the settings of sharing have them.

    ``encoders`` and ``secondary`` say whether there is such an encoder and whether clusters learn
    from each other at all, ``teacher-clusters`` from whom: the complementarity graph (Sec. 4), all,
    or all whose updates of S agree, which `watch` measures as long as any clusters share. Who
    learns from whom is kept in ``ServerState.teachers``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starts: dict[int, Weights] = {}
        self._told_of: dict[str, set[int]] = {}
        self.watch: AgreementWatch | None = None

    @property
    def by_graph(self) -> bool:
        """Whether clusters learn from those that the complementarity graph names."""
        return self._shared and self._settings.sharing.teacher_clusters == "graph"

    @property
    def by_agreement(self) -> bool:
        """Whether clusters learn from those that they agree with."""
        return self._shared and self._settings.sharing.teacher_clusters == "agreeing"

    @property
    def _shared(self) -> bool:
        """Whether clusters learn from each other at all."""
        return self._settings.sharing.dual and self._settings.sharing.secondary == "shared"

    # -- who learns from whom ----------------------------------------------------------------------

    def teachers(self, state: ServerState, clustering: ClusteringResult) -> Sequence[Sequence[int]]:
        """Return the teachers of each cluster of a clustering; `state` is that before it."""
        if self.by_agreement:
            assignments = dict(zip(clustering.names, clustering.labels.tolist(), strict=True))
            return self.of_origin(state, assignments, int(clustering.labels.max()) + 1)
        return self.by(clustering.graph, clustering.chosen.num_clusters)

    @staticmethod
    def of_origin(
        state: ServerState, assignments: Mapping[str, int], count: int
    ) -> Sequence[Sequence[int]]:
        """Return with whom each of `count` clusters shares one secondary encoder: all at first.

        After a later clustering, those whose members all come from one group of agreeing clusters.
        One with members of several groups starts from a mean of their S, and by itself.
        """
        groups = _groups(state)
        origins: list[set[int]] = [set() for _ in range(count)]
        for name, label in assignments.items():
            origins[label].add(groups[state.assignments[name]] if groups else 0)
        return [
            [other for other, theirs in enumerate(origins) if theirs == mine]
            if len(mine) == 1
            else [cluster]
            for cluster, mine in enumerate(origins)
        ]

    def by(self, graph: Complementarity | None, count: int) -> Sequence[Sequence[int]]:
        """Return the teachers of each of `count` clusters, where agreement does not decide."""
        if not self._settings.sharing.dual:
            return ()
        if self._settings.sharing.secondary == "own":
            return [[cluster] for cluster in range(count)]
        if graph is None:
            return [range(count)] * count
        if count == 1:
            logger.warning("one cluster only: it trains its secondary encoder itself")
            return [[0]]
        return graph.teachers

    def begin(self, state: ServerState) -> None:
        """Measure agreement from here on, where it decides and there is anybody to agree."""
        watched = self.by_agreement and _some_share(state)
        self.watch = self._new_watch(state.num_clusters) if watched else None
        self._told_of = {}
        period, needed = (
            self._settings.sharing.secondary_period,
            2 * self._settings.sharing.agreement_rounds,
        )
        left = self._settings.run.num_rounds // period - state.server_round // period
        if watched and left <= needed:
            logger.info(
                "clusters go on sharing secondary encoders to the end: to part takes %d rounds "
                "that train them (2 x agreement-rounds), and %d are left",
                needed,
                left,
            )

    def keep_to(self, state: ServerState, there: Collection[int]) -> None:
        """Let nobody learn from clusters, nor they from anybody, that are not among `there`."""
        state.teachers = tuple(
            tuple(teacher for teacher in row if teacher in there and cluster in there)
            for cluster, row in enumerate(state.teachers)
        )
        if not _some_share(state):
            self.watch = None

    # -- a round -----------------------------------------------------------------------------------

    def before_round(self, state: ServerState) -> None:
        """Compute S' of every source, the mean of its learners' S; once for those of the same."""
        rows = {source: tuple(state.learners(source)) for source in range(state.num_clusters)}
        means = {
            learners: mean([state.models[learner]["secondary"] for learner in learners])
            for learners in set(rows.values())
            if learners
        }
        self._starts = {
            source: means[learners] for source, learners in rows.items() if learners in means
        }

    def start_of(self, cluster: int) -> Weights:
        """Return S' of a source, which its clients train."""
        return self._starts[cluster]

    def learned(
        self, state: ServerState, replies: Mapping[str, TrainReply], aggregator: Aggregator
    ) -> dict[int, Weights]:
        """Return the new S of each cluster for which somebody has trained.

        That is S plus the mean of what its teachers taught S', or the sum (Eq. 21).
        """
        trained = {}
        for source, start in self._starts.items():
            members = [
                reply
                for name, reply in replies.items()
                if state.assignments[name] == source and "transfer" in reply.parts
            ]
            if members:
                trained[source] = aggregator.aggregate(
                    [reply.parts["transfer"] for reply in members],
                    [reply.samples for reply in members],
                    start,
                )
        return self._taught(state, trained, aggregator)

    def _taught(
        self, state: ServerState, trained: Mapping[int, Weights], aggregator: Aggregator
    ) -> dict[int, Weights]:
        """Return the new S of each learner.

        Clusters of one group have the same teachers and one S: its new value is computed once and
        is one object, or time would grow with the square of their number.
        """
        learners: dict[tuple[int, ...], list[int]] = {}
        for learner, row in enumerate(state.teachers):
            if sources := tuple(source for source in trained if source in row):
                learners.setdefault(sources, []).append(learner)
        taught: dict[int, Weights] = {}
        for sources, (first, *others) in learners.items():
            steps = self._steps({source: trained[source] for source in sources}, aggregator)
            before = state.models[first]["secondary"]
            taught[first] = _shifted(before, steps)
            for other in others:
                secondary = state.models[other]["secondary"]
                same = secondary.equals(before)
                taught[other] = taught[first] if same else _shifted(secondary, steps)
        return taught

    def _steps(
        self, trained: Mapping[int, Weights], aggregator: Aggregator
    ) -> list[tuple[Weights, Weights]]:
        """Return the pairs (trained, start) by which S is shifted: of all together, or of each.

        Together sources count alike. Where all have started from one S' they are joined as members
        are, since what one of them teaches can be a lie as well; else by their mean.
        """
        starts = [self._starts[source] for source in trained]
        if self._settings.sharing.combine_teachers != "mean":
            return list(zip(trained.values(), starts, strict=True))
        start, ends = mean(starts), list(trained.values())
        if all(one.equals(start) for one in starts):
            return [(aggregator.aggregate(ends, [1] * len(ends), start), start)]
        return [(mean(ends), start)]

    # -- agreement ---------------------------------------------------------------------------------

    def part(self, state: ServerState, replies: Mapping[str, TrainReply]) -> None:
        """Measure how far clusters agree on S, and part those that do not for good."""
        taught = [name for name, reply in replies.items() if "transfer" in reply.parts]
        if self.watch is None or not taught:
            return
        size = state.models[0]["secondary"].floats.size
        chosen = self._coordinates(size, state.server_round)
        updates = np.stack([replies[name].update_of("transfer")[chosen] for name in taught])
        present = _groups(state)
        labels = [state.assignments[name] for name in taught]
        groups = self.watch.add(taught, updates, labels, present)
        parted = (groups != canonical_labels(present)).any()
        state.teachers = tuple(
            tuple(teacher for teacher in row if groups[teacher] == groups[cluster])
            for cluster, row in enumerate(state.teachers)
        )
        self._tell_who_stays_undecided(state)
        if not parted:
            return
        if not _some_share(state):
            self.watch = None
        together = (np.flatnonzero(groups == group) for group in range(groups.max() + 1))
        inhabited = set(state.assignments.values())
        logger.info(
            "clusters that share a secondary encoder from now on: %s",
            "; ".join(
                listed(_texts(clusters))
                for clusters in together
                if not inhabited.isdisjoint(clusters.tolist())
            ),
        )

    def _coordinates(self, size: int, server_round: int) -> NDArray[np.int64]:
        """Return some coordinates of an update, `AGREEMENT_COORDINATES` at most.

        They are drawn anew each round: evenly spaced ones could fall in step with the shape of a
        layer, and the same ones would err the same way in all rounds.
        """
        if size <= AGREEMENT_COORDINATES:
            return np.arange(size)
        rng = generator(self._settings.run.seed, "agreement-coordinates", server_round=server_round)
        return np.sort(rng.choice(size, AGREEMENT_COORDINATES, replace=False, shuffle=False))

    def _tell_who_stays_undecided(self, state: ServerState) -> None:
        """Log, once each, the clusters that go on sharing because nothing is certain of them."""
        watch = self.watch
        if watch is None or watch.before is None or not watch.at_end_of_window:
            return
        undecided = self._undecided(state, watch, watch.before)
        if new := self._not_told("untold", undecided["untold"]):
            logger.warning(
                "cluster %s: too few of its clients train in one round to tell whether it agrees "
                "with those that it shares a secondary encoder with: it goes on sharing",
                listed(_texts(new)),
            )
        for cluster in self._not_told("at odds", undecided["at odds"]):
            logger.warning(
                "cluster %d: its clients do not agree with each other on the secondary encoder "
                "(against the others: %s), so nobody parts from it: it goes on sharing",
                cluster,
                listed(watch.before.at_odds()[cluster]),
            )
        for cluster in self._not_told("apart", undecided["apart"]):
            logger.warning(
                "cluster %d: never trained in one round with cluster %s in the last "
                "agreement-rounds = %d, so nothing there tells whether they agree: it goes on "
                "sharing",
                cluster,
                listed(_texts(sorted(undecided["apart"][cluster]))),
                self._settings.sharing.agreement_rounds,
            )
        if new := self._not_told("unsure", undecided["unsure"]):
            logger.info(
                "cluster %s: agrees less than agreement-threshold with some of those that it "
                "shares a secondary encoder with, but not for certain: it goes on sharing",
                listed(_texts(new)),
            )

    def _undecided(
        self, state: ServerState, watch: AgreementWatch, window: Agreement
    ) -> dict[str, dict[int, set[int]]]:
        """Return by reason which clusters of a group are undecided, and about whom.

        Where it lies with one of the two, it is that one's reason alone.
        """
        # Who falls short in this window may part in the next: nothing hides that.
        undecided = watch.undecided & ~window.shortfall(self._settings.sharing.agreement_threshold)
        inhabited = set(state.assignments.values())
        untold, at_odds, met = set(window.untold().tolist()), set(window.at_odds()), _met(window)
        by_reason: dict[str, dict[int, set[int]]] = {
            reason: {} for reason in ("untold", "at odds", "apart", "unsure")
        }
        for cluster in sorted(inhabited):
            peers = inhabited.intersection(state.teachers[cluster]) - {cluster}
            doubtful = {other for other in peers if undecided[cluster, other]}
            if cluster in untold:
                of_cluster = {"untold": doubtful}
            elif cluster in at_odds:
                of_cluster = {"at odds": doubtful}
            else:
                clear = doubtful - untold - at_odds
                apart = {other for other in clear if not met[cluster, other]}
                of_cluster = {"apart": apart, "unsure": clear - apart}
            for reason, others in of_cluster.items():
                if others:
                    by_reason[reason][cluster] = others
        return by_reason

    def _not_told(self, reason: str, clusters: Collection[int]) -> list[int]:
        """Return those of `clusters` not yet logged for `reason`, and remember them."""
        told = self._told_of.setdefault(reason, set())
        new = sorted(set(clusters) - told)
        told.update(new)
        return new

    def _new_watch(self, clusters: int) -> AgreementWatch:
        settings = self._settings
        return AgreementWatch(
            clusters, settings.sharing.agreement_rounds, settings.sharing.agreement_threshold
        )

    def state_dict(self) -> AlgorithmState:
        """Return what a checkpoint keeps; nothing where agreement is not measured."""
        if self.watch is None:
            return AlgorithmState()
        told = {reason: sorted(clusters) for reason, clusters in self._told_of.items()}
        return AlgorithmState(
            {"agreement": self.watch.arrays()},
            {"agreement": self.watch.clients(), "agreement-told-of": told},
        )

    def load_state_dict(self, state: ServerState, kept: AlgorithmState) -> None:
        """Take over what `state_dict` returned."""
        if (arrays := kept.arrays.get("agreement")) is not None:
            self.watch = self._new_watch(state.num_clusters)
            self.watch.load_state_dict(arrays, kept.notes["agreement"])
            told = kept.notes.get("agreement-told-of", {})
            self._told_of = {reason: set(clusters) for reason, clusters in told.items()}


def _texts(clusters: Iterable[int]) -> list[str]:
    return [str(cluster) for cluster in clusters]


def _met(agreement: Agreement) -> NDArray[np.bool_]:
    """Tell which clusters, shape (Z, Z), had clients that trained in one round."""
    pairs = np.zeros((agreement.pairs.shape[1],) * 2, dtype=np.int64)
    np.add.at(pairs, agreement.labels, agreement.pairs)
    return pairs > 0


def _groups(state: ServerState) -> list[int]:
    """Return the group of each cluster, by its first: those of one have one S."""
    return [min(row, default=cluster) for cluster, row in enumerate(state.teachers)]


def _shifted(secondary: Weights, steps: Sequence[tuple[Weights, Weights]]) -> Weights:
    """Add the update of each step, (trained, start), in their order."""
    for trained, start in steps:
        secondary = shift(secondary, trained, start)
    return secondary


def _some_share(state: ServerState) -> bool:
    """Tell whether a cluster learns from more than itself."""
    return any(len(row) > 1 for row in state.teachers)
