"""FedDAG: profile, fused similarity, clustering, complementarity graph, dual-encoder training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import shift, weighted_mean
from feddag_flwr.algorithms.algorithm import Algorithm, RoundPlan, RoundReplies
from feddag_flwr.algorithms.feddag.clustering_result import (
    ClusteringResult,
    cluster_clients,
    draw_graph,
    options_of,
)
from feddag_flwr.algorithms.feddag.draft import Draft
from feddag_flwr.algorithms.feddag.messages import (
    DirectionsRequest,
    DualEvaluateRequest,
    DualTrainRequest,
)
from feddag_flwr.algorithms.feddag.profile_store import ProfileStore
from feddag_flwr.algorithms.feddag.profiling import (
    DiskBackedWeights,
    Profiler,
    Profiles,
    without_encoder,
)
from feddag_flwr.algorithms.feddag.refinement import Refiner
from feddag_flwr.algorithms.feddag.sharing import Sharing
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.labels import matched_labels
from feddag_flwr.federation.context import FederationContext, listed
from feddag_flwr.federation.errors import MIN_CLIENTS, FederationError
from feddag_flwr.models.flat import get_parts
from feddag_flwr.profile import Profile
from feddag_flwr.records import EvaluateRequest, Model, TrainReply
from feddag_flwr.records.request import ClientRequest
from feddag_flwr.seeds import generator
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.newcomers import ProfileArrays
from feddag_flwr.similarity.odd_clients import OddClient, odd_clients
from feddag_flwr.similarity.proximity import measure_proximity
from feddag_flwr.similarity.unlabelled import Directions

logger = logging.getLogger("flwr")

REFINEMENTS = "refinements.json"


class FedDAG(Algorithm):
    """Clustered federated learning by global data and gradient integration.

    Source: arXiv 2602.23504, Algorithm 1. The variants are settings: ``secondary`` (FedDAG,
    FedDAG-dagger, FedDAG*), ``encoders`` (one that all clusters train), ``fusion`` (FedDAG*-Data,
    FedDAG*-Grad), ``schedule`` (B.9), ``initialisation`` and ``diversity`` (A.11). By default all
    clusters train one secondary encoder, each with its own half of the classifier, and part where
    their updates of it do not agree; the paper's graph is ``teacher-clusters = graph``,
    docs/sharing.md. Clients that come later, or whose data has drifted, are profiled and placed by
    Algorithm 4 while the others train; when they have become many (``recluster-share``), all are
    clustered anew.
    """

    def __init__(self, context: FederationContext) -> None:
        super().__init__(context)
        self._profiles: ProfileStore | None = None
        self._recluster_due = False
        self._sharing = Sharing(context.settings)
        self._refiner = Refiner(context)
        self._told: dict[str, Any] = {}

    @cached_property
    def _profiler(self) -> Profiler:
        return Profiler(self.context)

    @property
    def _separate_heads(self) -> bool:
        """Whether each encoder is trained with its own half of the classifier."""
        return self.settings.sharing.dual and (
            self.settings.sharing.classifier_training == "separate"
        )

    # -- phases 1 to 4 -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Profile the clients, cluster them, and start the clusters' models."""
        self.context.tell_view()
        with closing(DiskBackedWeights(self.context.folder.path)) as encoders:
            with self.context.phase("profile"):
                replies = self._profiler.collect(
                    self.state.clients, self.state.server_round, encoders
                )
            self._check_enough(len(replies))
            profiles = Profiles.of(replies)
            self._take_over_private(profiles)
            clustering = self._cluster(profiles)
            self._start_models(clustering, encoders)
        self._keep(clustering, profiles)

    def _take_over_private(self, profiles: Profiles) -> None:
        """Where profiles are private, say what they cost; noisy counts say how much clients have.

        On joining they did not say it.
        """
        if self._profiler.ledger is None:
            return
        logger.info("%s", self._profiler.ledger.in_words())
        for name, counts in zip(profiles.names, profiles.counts, strict=True):
            if name in self.state.clients:
                client = self.state.clients[name]
                self.state.admit(replace(client, train_samples=int(counts.sum())))

    def _check_enough(self, count: int) -> None:
        """Refuse to cluster fewer clients than are needed."""
        wanted = min(self.settings.deployment.min_clients, len(self.state.clients))
        if count < (least := max(MIN_CLIENTS, wanted)):
            raise FederationError(
                f"{count} of {len(self.state.clients)} clients sent a valid profile, "
                f"{least} are needed at least; the log names the reasons"
            )

    def _cluster(self, profiles: Profiles) -> ClusteringResult:
        """Run phases 2 to 4 on profiles."""
        settings, graph = self.settings, None
        names, counts = profiles.names, profiles.counts
        subspaces = ClassSubspaces(profiles.bases, counts, settings.similarity.angle)
        with self.context.phase("similarity"):
            proximity = measure_proximity(
                profiles.updates, subspaces, names=names, **options_of(settings)
            )
        with self.context.phase("clustering"):
            candidates, chosen = cluster_clients(settings, proximity)
            labels = self._numbered(names, chosen.labels, chosen.num_clusters)
        if self._sharing.by_graph:
            with self.context.phase("complementarity"):
                graph = draw_graph(settings, subspaces, labels)
            for cluster in graph.arbitrary:
                logger.warning(
                    "cluster %d: all scores of Eq. 14 are 0, its teachers are arbitrary", cluster
                )
        odd: list[OddClient] = []
        if proximity.tree is not None:
            odd = odd_clients(subspaces, labels, settings.similarity.false_positive_rate)
        return ClusteringResult(names, counts, proximity, candidates, chosen, labels, graph, odd)

    def _numbered(
        self, names: list[str], labels: NDArray[np.intp], num_clusters: int
    ) -> NDArray[np.intp]:
        """Give the clusters of a later clustering the numbers that they had, where they had one.

        Their founders decide: who was placed since stands where it does for want of a better.
        """
        if self._profiles is None:
            return labels
        none = self.state.num_clusters + num_clusters  # no number that could be kept
        founders = self._profiles.founders()
        previous = [self.state.assignments[name] if name in founders else none for name in names]
        return matched_labels(previous, labels, num_clusters)

    def _start_models(self, clustering: ClusteringResult, encoders: DiskBackedWeights) -> None:
        """Start P by Eq. 22, S by the mean of all clients' encoders, K at random.

        S and K start alike for all clusters, and so does P where it is the one encoder. P starts at
        random too by ``initialisation``, S by ``secondary-start``: A.11 has both so.
        """
        dual = self.settings.sharing.dual
        model = self.context.initial_model(dual=dual)
        if self._separate_heads and self.settings.sharing.secondary_period > 1:
            # Rounds go by before S's half is trained: at random it would be noise in all of them.
            model.classifier.zero_secondary_head()
        random: Model = dict(get_parts(model))
        samples = [
            [self.state.clients[name].train_samples for name in members]
            for members in clustering.clusters()
        ]
        start_warm = self.settings.sharing.initialisation == "warm"
        second_warm = dual and self.settings.sharing.secondary_start == "warm"
        if not (start_warm or second_warm):
            self._set_clusters(clustering, [dict(random) for _ in samples])
            return
        warm = [
            weighted_mean([encoders.get(name) for name in members], counts)
            for members, counts in zip(clustering.clusters(), samples, strict=True)
        ]
        if second_warm:
            random["secondary"] = weighted_mean(warm, [sum(counts) for counts in samples])
        if start_warm:
            models = [random | {"primary": primary} for primary in warm]
        else:
            models = [dict(random) for _ in warm]
        self._set_clusters(clustering, models)

    def _set_clusters(self, clustering: ClusteringResult, models: list[Model]) -> None:
        """Take over a clustering with its models; one encoder is the mean of all clients' ones."""
        if self.settings.sharing.encoders == "one":
            samples = [
                sum(self.state.clients[name].train_samples for name in members)
                for members in clustering.clusters()
            ]
            encoder = weighted_mean([model["primary"] for model in models], samples)
            models = [model | {"primary": encoder} for model in models]
        teachers = self._sharing.teachers(self.state, clustering)
        self.state.set_clusters(clustering.names, clustering.labels.tolist(), models, teachers)
        self._sharing.begin(self.state)

    def _keep(self, clustering: ClusteringResult, profiles: Profiles) -> None:
        """Keep what later clients are placed by, and write what came of phases 2 to 4."""
        self._profiles = ProfileStore(
            ProfileArrays.of(
                profiles.updates, profiles.bases, profiles.counts, clustering.proximity
            ),
            list(profiles.names),
            clustering.chosen.threshold,
            self.settings.clustering.linkage,
            options_of(self.settings),
            profiles.directions,
            {} if self._profiles is None else self._profiles.unlabelled,
            dict(profiles.looks),
        )
        try:
            clustering.write(self.context.folder, self.state)
        except OSError as error:  # a full disk costs two files, not the round
            logger.error("the clustering could not be written: %s", error)
        logger.info(
            "%d clusters at threshold %.3f, %s",
            clustering.chosen.num_clusters,
            clustering.chosen.threshold,
            clustering.reasons(),
        )
        for name, what in clustering.oddities(self.state.class_names).items():
            cluster = self.state.assignments[name]
            logger.warning("client %s is odd in cluster %d: %s", name, cluster, what)

    # -- clients that come later, or change --------------------------------------------------------

    def reference_of(self, name: str) -> tuple[int, ...]:
        """Return the client's samples of each class in its profile, where drift is looked for."""
        if self._profiles is None or not self.settings.clustering.drift_threshold:
            return ()
        return self._profiles.counts_of(name)

    def looks_of(self, name: str) -> tuple[float, ...]:
        """Return how the client's classes looked when it was profiled (setting ``looks-level``)."""
        if self._profiles is None or name not in self._profiles.looks:
            return ()
        return tuple(self._profiles.looks[name].tolist())

    def newcomer_request(self, server_round: int, name: str) -> ClientRequest[Profile]:
        """Ask for a profile as in phase 1."""
        return self._profiler.request(name, server_round)

    def place_newcomers(
        self, server_round: int, names: list[str], replies: Mapping[str, Profile]
    ) -> dict[str, int]:
        """Place each by Algorithm 4; nobody else moves. They count as members from now on."""
        del server_round, names
        assert self._profiles is not None
        profiles = Profiles.of({name: without_encoder(reply) for name, reply in replies.items()})
        placed = self._profiles.place(profiles, self._settled())
        self._profiles.take_in(profiles)
        if placed:
            self._redraw_graph_without_empty_clusters(self.state.assignments | placed)
            return placed
        # Everybody has drifted at once: they stay together until all are clustered anew.
        self._recluster_due = True
        return {name: self.state.assignments.get(name, 0) for name in replies}

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Profile clients as in phase 1 and place each by Algorithm 4; nobody else moves.

        A client without a valid profile stays without a cluster.
        """
        del server_round
        assert self._profiles is not None
        replies = self._profiler.collect(names, self.state.server_round)
        return self._profiles.place(Profiles.of(replies), self._settled()) if replies else {}

    def directions_request(self, server_round: int, name: str) -> DirectionsRequest | None:
        """Ask a client without labels where its samples lie (setting ``unlabelled``)."""
        if self.settings.clustering.unlabelled == "refuse":
            return None
        return self._profiler.directions(name, server_round)

    def place_unlabelled(
        self, server_round: int, clients: Mapping[str, int], replies: Mapping[str, Any]
    ) -> dict[str, tuple[int, float]]:
        """Place clients without labels by their directions: see `similarity.unlabelled`."""
        assert self._profiles is not None
        for name, reply in replies.items():
            of_client = Directions.of([reply.vectors], [reply.shares], [clients[name]])
            self._profiles.unlabelled[name] = of_client
        return self._place_unlabelled(server_round, replies)

    def _place_unlabelled(
        self, server_round: int, names: Collection[str]
    ) -> dict[str, tuple[int, float]]:
        assert self._profiles is not None
        rng = generator(self.settings.run.seed, "place-unlabelled", server_round=server_round)
        return self._profiles.place_unlabelled(names, self._settled(), rng)

    def _redraw_graph_without_empty_clusters(self, assignments: Mapping[str, int]) -> None:
        """Let nobody learn from a cluster that its last member has left (Sec. 4 on the others).

        The empty cluster keeps its number and its model; newcomers do not go there.
        """
        left = set(self.state.assignments.values()) - set(assignments.values())
        if not left or not self.state.teachers:
            return
        logger.warning(
            "cluster %s is empty now: teachers are drawn anew",
            listed([str(cluster) for cluster in sorted(left)]),
        )
        if not self._sharing.by_graph:
            self._sharing.keep_to(self.state, set(assignments.values()))
            return
        self.state.teachers = self._teachers_by_graph(assignments, self.state.num_clusters)

    def _teachers_by_graph(
        self, assignments: Mapping[str, int], count: int
    ) -> tuple[tuple[int, ...], ...]:
        """Draw the graph (Sec. 4) of those of `count` clusters that somebody is in."""
        assert self._profiles is not None
        profiles = self._profiles.present()
        placed = [assignments[name] for name in profiles.names]
        clusters, labels = np.unique(placed, return_inverse=True)
        angle = self.settings.similarity.angle
        subspaces = ClassSubspaces(profiles.bases, profiles.counts, angle)
        graph = draw_graph(self.settings, subspaces, labels)
        teachers: list[tuple[int, ...]] = [()] * count
        for cluster, row in zip(clusters, self._sharing.by(graph, len(clusters)), strict=True):
            teachers[cluster] = tuple(int(clusters[source]) for source in row)
        return tuple(teachers)

    def _settled(self) -> dict[str, int]:
        """Clusters of the clients whose profile still holds."""
        return {n: z for n, z in self.state.assignments.items() if n not in self.context.drifted}

    def _recluster_if_due(self) -> None:
        """Cluster all clients anew once so many have been placed since the last clustering.

        If other clients belong together now, graph and models are rebuilt: a new cluster starts
        from the mean of the models that its members have now, each counted by its samples.
        """
        store, share = self._profiles, self.settings.clustering.recluster_share
        if store is None:
            return
        count = store.num_clients
        grown = share and store.placed_since >= share * count
        if not (grown or self._recluster_due) or count < MIN_CLIENTS:
            return
        self._recluster_due = False
        profiles = store.present()
        clustering = self._cluster(profiles)
        before = [self.state.assignments[name] for name in profiles.names]
        fewer_or_more = clustering.chosen.num_clusters != self.state.num_clusters
        changed = fewer_or_more or clustering.labels.tolist() != before
        logger.info("clustered anew: %s", "groups have changed" if changed else "nobody moves")
        if changed:
            self._set_clusters(clustering, self._inherited_models(clustering))
        self._keep(clustering, profiles)
        if self.context.unlabelled:
            self.context.unlabelled |= {
                name: replace(self.context.unlabelled[name], cluster=cluster, sure=sure)
                for name, (cluster, sure) in self._place_unlabelled(
                    self.state.server_round, self.context.unlabelled
                ).items()
            }

    def _inherited_models(self, clustering: ClusteringResult) -> list[Model]:
        """Mean of the members' present models, for each cluster of a new clustering."""
        inherited = []
        for members in clustering.clusters():
            shares: Counter[int] = Counter()
            for name in members:
                shares[self.state.assignments[name]] += self.state.clients[name].train_samples
            old = sorted(shares)
            inherited.append(
                {
                    part: weighted_mean(
                        [self.state.models[cluster][part] for cluster in old],
                        [shares[cluster] for cluster in old],
                    )
                    for part in self.state.models[old[0]]
                }
            )
        return inherited

    def state_dict(self) -> AlgorithmState:
        """Keep the clients' profiles, and whether they are to be clustered anew."""
        assert self._profiles is not None
        kept, sharing = self._profiles.state_dict(), self._sharing.state_dict()
        notes = kept.notes | sharing.notes | {"recluster-due": self._recluster_due}
        arrays = kept.arrays | sharing.arrays
        if self.settings.clustering.refine_every:
            notes["refinement"] = self._refiner.notes()
            arrays["refinement"] = self._refiner.arrays()
        return AlgorithmState(arrays, notes)

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take over the profiles."""
        settings = self.settings
        self._profiles = ProfileStore.from_state_dict(
            kept, settings.clustering.linkage, options_of(settings)
        )
        self._recluster_due = kept.notes["recluster-due"]
        self._sharing.load_state_dict(self.state, kept)
        if self.settings.clustering.refine_every:
            self._refiner.load(kept.notes["refinement"], kept.arrays["refinement"])

    # -- phase 5 -----------------------------------------------------------------------------------

    def plan_round(self, server_round: int) -> RoundPlan:
        """Cluster anew if that is due; then draw clients and say which phases they run.

        S' of every source, the mean of its learners' S, is computed once.
        """
        sampled = self.sample_clients(server_round)
        connected = self.context.connected(sampled)
        self._recluster_if_due()
        self._sharing.before_round(self.state)
        asked = frozenset(name for name in sampled if self.phases_of(server_round, name))
        requests = {
            name: self.train_request(server_round, name) for name in connected if name in asked
        }
        return RoundPlan(sampled, asked, requests)

    def train_request(self, server_round: int, name: str) -> DualTrainRequest:
        """Send the cluster's model, and S' where the cluster trains it and it is not its own S.

        S' is S in the first round, when all start alike, and in FedDAG-dagger.
        """
        phases, parts = self.phases_of(server_round, name), dict(self.model_of(name))
        if "secondary" in phases:
            transfer = self._sharing.start_of(self.state.assignments[name])
            if not transfer.equals(parts["secondary"]):
                parts["transfer"] = transfer
        return DualTrainRequest(
            self.context.header(name, server_round),
            parts,
            phases,
            self.local_training(name),
            self._separate_heads,
            self.settings.training.diversity,
        )

    def evaluate_request(
        self, server_round: int, name: str, personalisation_epochs: int
    ) -> EvaluateRequest:
        """Judge a model as any other; only personalisation knows of the two encoders."""
        plain = super().evaluate_request(server_round, name, personalisation_epochs)
        if not personalisation_epochs:
            return plain
        heads, diversity = self._separate_heads, self.settings.training.diversity
        return DualEvaluateRequest(**vars(plain), separate_heads=heads, diversity=diversity)

    def phases_of(self, server_round: int, name: str) -> tuple[str, ...]:
        """Both phases where the cluster is somebody's source; by turns under a K:1 schedule."""
        primary = secondary = True
        if self.settings.sharing.schedule != "both":
            secondary = server_round % self.settings.sharing.secondary_period == 0
            primary = not secondary
        secondary = secondary and bool(self.state.learners(self.state.assignments[name]))
        return ("primary",) * primary + ("secondary",) * secondary

    def update(self, round_replies: RoundReplies) -> None:
        """Update P and K (Eq. 18), then add each source's update to its learners' S (Eq. 21).

        One encoder is the average of all clients of the round, in whichever cluster they are.
        """
        if self.settings.sharing.encoders == "one":
            self.average_clusters(round_replies, ["classifier"])
            self.average_common(round_replies, "primary")
        else:
            self.average_clusters(round_replies)
        learned = self._sharing.learned(self.state, round_replies.replies, self.context.aggregator)
        for learner, secondary in learned.items():
            self.context.replace_part(learner, "secondary", secondary)
        self._sharing.part(self.state, round_replies.replies)
        self._told = {}
        if self._refiner.due(round_replies.server_round):
            self._take_over(self._refiner.check(round_replies.server_round))

    def model_after(self, name: str, reply: TrainReply) -> Model | None:
        """Return the cluster's P and K as the client trained them, and its S moved as S' was."""
        after = dict(self.state.models[self.state.assignments[name]])
        for part, trained in reply.parts.items():
            if part == "transfer":
                after["secondary"] = shift(after["secondary"], trained, reply.starts[part])
            else:
                after[part] = trained
        return after

    # -- refinement --------------------------------------------------------------------------------

    def told(self) -> Mapping[str, Any]:
        """Return what a check has changed in the round."""
        return self._told

    def _take_over(self, draft: Draft) -> None:
        """Let clusters be as a check has drafted them, and draw anew who learns from whom."""
        history = self._refiner.history
        self._told = {"refined": history[-1]["changes"]}
        if not draft.changes:
            return
        if draft.regrouped:
            teachers = self._teachers_of(draft)
            self.state.assignments, self.state.models = draft.assignments, draft.models
            self.state.teachers = teachers
            self._sharing.begin(self.state)
        else:
            self._redraw_graph_without_empty_clusters(draft.assignments)
            self.state.assignments = draft.assignments
        try:
            self.context.folder.write_json(REFINEMENTS, {"refinements": history})
        except OSError as error:  # as of the clustering
            logger.error("the refinements could not be written: %s", error)

    def _teachers_of(self, draft: Draft) -> tuple[tuple[int, ...], ...]:
        """Draw teachers anew; clusters that nobody is in have none and teach nobody."""
        if not self.settings.sharing.dual:
            return ()
        if self._sharing.by_agreement:
            rows = self._sharing.of_origin(self.state, draft.assignments, len(draft.models))
        elif self._sharing.by_graph:
            return self._teachers_by_graph(draft.assignments, len(draft.models))
        else:
            rows = self._sharing.by(None, len(draft.models))
        there = set(draft.assignments.values())
        return tuple(
            tuple(teacher for teacher in row if teacher in there and cluster in there)
            for cluster, row in enumerate(rows)
        )
