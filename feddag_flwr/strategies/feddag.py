"""FedDAG: profile, fused similarity, clustering, complementarity graph, dual-encoder training."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, weighted_mean
from feddag_flwr.checkpoints import AlgorithmState, Checkpoint
from feddag_flwr.clustering.complementarity import complementarity
from feddag_flwr.clustering.labels import matched_labels
from feddag_flwr.clustering.selection import choose
from feddag_flwr.clustering.threshold import Candidate, sweep, threshold_grid
from feddag_flwr.models.flat import get_parts
from feddag_flwr.profile import Profile
from feddag_flwr.records import LocalTrainingConfig, Model, TrainReply, TrainRequest
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.newcomers import ProfileArrays
from feddag_flwr.similarity.proximity import ProximityOptions, measure_proximity, pack_bases
from feddag_flwr.similarity.subspace import class_angles
from feddag_flwr.strategies.algorithm import listed
from feddag_flwr.strategies.client_registry import MIN_CLIENTS, FederationError
from feddag_flwr.strategies.clustered import ClusteredStrategy
from feddag_flwr.strategies.clustering_result import ClusteringResult
from feddag_flwr.strategies.outliers import too_long
from feddag_flwr.strategies.profile_store import ProfileStore
from feddag_flwr.strategies.profiling import DiskBackedWeights, Profiler, Profiles, without_encoder
from feddag_flwr.strategies.sharing import Sharing

logger = logging.getLogger("flwr")


class FedDAG(ClusteredStrategy):
    """Clustered federated learning by global data and gradient integration.

    Source: arXiv 2602.23504, Algorithm 1. The variants are settings: ``secondary`` (FedDAG,
    FedDAG-dagger, FedDAG*), ``fusion`` (FedDAG*-Data, FedDAG*-Grad), ``schedule`` (B.9),
    ``initialisation`` and ``diversity`` (A.11). By default all clusters train one secondary
    encoder, each with its own half of the classifier, and part where their updates of it do not
    agree; the paper's graph of teachers is ``teachers``, see docs/sharing.md. Clients that come
    later, or whose data has drifted, are profiled and placed by Algorithm 4 while the others train;
    when they have become many (``regroup-share``), all are clustered anew.
    """

    profiles_newcomers = True

    def __init__(
        self, settings: Settings, folder: RunFolder, checkpoint: Checkpoint | None = None
    ) -> None:
        super().__init__(settings, folder, checkpoint)
        self._residence: ProfileStore | None = None
        self._regroup_due = False
        self._sharing = Sharing(settings)

    @property
    def _separate_heads(self) -> bool:
        """Whether each encoder is trained with its own half of the classifier."""
        dual = self.settings.secondary != "none"
        return dual and self.settings.classifier_training == "halves"

    # -- phases 1 to 4 -----------------------------------------------------------------------------

    def form_clusters(self) -> None:
        """Profile the clients, cluster them, and start the clusters' models."""
        with closing(DiskBackedWeights(self.folder.path)) as encoders:
            with self.watch.phase("profile"):
                profiles = self._collect(self.state.clients, encoders)
            self._check_enough(len(profiles))
            found = Profiles.of(profiles)
            classes = len(self.state.class_names)
            bases = pack_bases(found.vectors, found.vector_classes, classes)
            grouping = self._group(found.names, found.updates, bases, found.counts)
            self._start_models(grouping, encoders)
        self._settle(grouping, found.updates, bases)

    def _check_enough(self, count: int) -> None:
        """Refuse to cluster fewer clients than are needed."""
        wanted = min(self.settings.min_clients, len(self.state.clients))
        if count < (least := max(MIN_CLIENTS, wanted)):
            raise FederationError(
                f"{count} of {len(self.state.clients)} clients sent a valid profile, "
                f"{least} are needed at least; the log names the reasons"
            )

    def _collect(
        self, names: Iterable[str], encoders: DiskBackedWeights | None = None
    ) -> dict[str, Profile]:
        profiler = Profiler(self)
        found, lengths = {}, {}
        for name, profile in profiler.collect(names, self.state.server_round):
            if encoders is not None:
                encoders.put(name, profile.encoder)
                lengths[name] = profiler.lengths(profile)
            found[name] = without_encoder(profile)
        excessive = too_long(lengths, self.settings.max_update_ratio, "profile")
        return {name: profile for name, profile in found.items() if name not in excessive}

    def _options(self) -> ProximityOptions:
        return {
            "angle": self.settings.angle,
            "weight_delta": self.settings.weight_delta,
            "weight_scope": self.settings.weight_scope,
            "fusion": self.settings.fusion,
            "fusion_steps": self.settings.fusion_steps,
        }

    def _group(
        self,
        names: list[str],
        updates: NDArray[np.floating[Any]],
        bases: NDArray[np.float32],
        counts: NDArray[np.integer[Any]],
    ) -> ClusteringResult:
        """Run phases 2 to 4 on profiles, rows in the order of names."""
        settings = self.settings
        with self.watch.phase("similarity"):
            proximity = measure_proximity(updates, bases, counts, names=names, **self._options())
        with self.watch.phase("clustering"):
            candidates = sweep(
                proximity.fused,
                linkage=settings.linkage,
                thresholds=threshold_grid(settings.threshold_step),
                gamma=settings.size_gamma,
                tau=settings.size_tau,
                lam=settings.size_lambda,
            )
            chosen = choose(candidates, settings.split_persistence)
            labels = self._numbered(names, chosen)
        with self.watch.phase("complementarity"):
            graph = complementarity(
                counts, proximity.angles, labels, top_k=settings.top_k, aligned=settings.alignment
            )
        for cluster in graph.arbitrary if self._sharing.by_graph else ():
            logger.warning(
                "cluster %d: all scores of Eq. 14 are 0, its teachers are arbitrary", cluster
            )
        return ClusteringResult(names, counts, proximity, candidates, chosen, labels, graph)

    def _numbered(self, names: list[str], chosen: Candidate) -> NDArray[np.intp]:
        """Give the clusters of a later clustering the numbers that they had, where they had one.

        Their founders decide: who was placed since stands where it does for want of a better.
        """
        if self._residence is None:
            return chosen.labels
        none = self.state.num_clusters + chosen.num_clusters  # no number that could be kept
        founders = self._residence.founders()
        previous = [self.state.assignments[name] if name in founders else none for name in names]
        return matched_labels(previous, chosen.labels, chosen.num_clusters)

    def _start_models(self, grouping: ClusteringResult, encoders: DiskBackedWeights) -> None:
        """Start P by Eq. 22, S by the mean of all clients' encoders, K at random.

        S and K start alike for all clusters. P starts at random too by ``initialisation``, S by
        ``secondary-start``: A.11 has both so.
        """
        dual = self.settings.secondary != "none"
        model = self.initial_model(dual=dual)
        if self._separate_heads and self.settings.secondary_period > 1:
            # Rounds go by before S's half is trained: at random it would be noise in all of them.
            model.classifier.zero_secondary_head()
        random: Model = dict(get_parts(model))
        samples = [
            [self.state.clients[name].train_samples for name in members]
            for members in grouping.clusters()
        ]
        warm = [
            weighted_mean([encoders.get(name) for name in members], counts)
            for members, counts in zip(grouping.clusters(), samples, strict=True)
        ]
        if dual and self.settings.secondary_start == "warm":
            random["secondary"] = weighted_mean(warm, [sum(counts) for counts in samples])
        if self.settings.initialisation == "warm":
            models = [random | {"primary": primary} for primary in warm]
        else:
            models = [dict(random) for _ in warm]
        self._set_clusters(grouping, models)

    def _set_clusters(self, grouping: ClusteringResult, models: list[Model]) -> None:
        sources = self._sharing.teachers(self.state, grouping)
        self.state.set_clusters(grouping.names, grouping.labels.tolist(), models, teachers)
        self._sharing.begin(self.state)

    def _settle(
        self,
        grouping: ClusteringResult,
        updates: NDArray[np.floating[Any]],
        bases: NDArray[np.float32],
    ) -> None:
        """Keep what later clients are placed by, and write what came of phases 2 to 4."""
        self._residence = ProfileStore(
            ProfileArrays.of(updates, bases, grouping.counts, grouping.proximity),
            list(grouping.names),
            grouping.chosen.threshold,
            self.settings.linkage,
            self._options(),
        )
        try:
            grouping.write(self.folder, self.state)
        except OSError as error:  # a full disk costs two files, not the round
            logger.error("the clustering could not be written: %s", error)
        logger.info(
            "%d clusters at threshold %.3f, %s",
            grouping.chosen.num_clusters,
            grouping.chosen.threshold,
            grouping.weighing(),
        )

    # -- clients that come later, or change --------------------------------------------------------

    def reference_for(self, name: str) -> tuple[int, ...]:
        """Return the client's samples of each class in its profile, where drift is looked for."""
        if self._residence is None or not self.settings.drift_threshold:
            return ()
        return self._residence.counts_of(name)

    def place_newcomers(
        self, server_round: int, names: list[str], profiles: Mapping[str, Profile]
    ) -> dict[str, int]:
        """Place each by Algorithm 4; nobody else moves. They count as profiles_known from now on."""
        del server_round, names
        assert self._residence is not None
        found = Profiles.of(profiles)
        placed = self._residence.place(found, self._settled())
        self._residence.take_in(found)
        if placed:
            self._redraw_graph_without_empty_clusters(self.state.assignments | placed)
            return placed
        # Everybody has drifted at once: they stay together until all are clustered anew.
        self._regroup_due = True
        return {name: self.state.assignments.get(name, 0) for name in profiles}

    def _redraw_graph_without_empty_clusters(self, assignments: Mapping[str, int]) -> None:
        """Let nobody learn from a cluster that its last member has left (Sec. 4 on the others).

        The empty cluster keeps its number and its model; newcomers do not go there.
        """
        assert self._residence is not None
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
        names, rows = self._residence.present()
        profiles_known = self._residence.profiles_known
        clusters, labels = np.unique([assignments[name] for name in names], return_inverse=True)
        angles = class_angles(
            profiles_known.bases[rows], profiles_known.counts[rows], self.settings.angle
        )
        graph = complementarity(
            profiles_known.counts[rows], angles, labels,
            top_k=self.settings.top_k, aligned=self.settings.alignment,
        )  # fmt: skip
        teachers: list[tuple[int, ...]] = [()] * self.state.num_clusters
        for cluster, row in zip(clusters, self._sharing.sources_by(graph), strict=True):
            teachers[cluster] = tuple(int(clusters[source]) for source in row)
        self.state.sources = tuple(teachers)

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Profile clients as in phase 1 and place each by Algorithm 4; nobody else moves.

        A client without a valid profile stays without a cluster.
        """
        del server_round
        assert self._residence is not None
        found = self._collect(names)
        return self._residence.place(Profiles.of(found), self._settled()) if found else {}

    def _settled(self) -> dict[str, int]:
        """Clusters of the clients whose profile still holds."""
        return {n: z for n, z in self.state.assignments.items() if n not in self.drifted}

    def _recluster_if_due(self) -> None:
        """Cluster all clients anew once so many have been placed since the last clustering.

        If other clients belong together now, graph and models are rebuilt: a new cluster starts
        from the mean of the models that its members have now, each counted by its samples.
        """
        residence, share = self._residence, self.settings.regroup_share
        if residence is None:
            return
        names, rows = residence.present()
        grown = share and residence.placed_since >= share * len(names)
        if not (grown or self._regroup_due) or len(names) < MIN_CLIENTS:
            return
        self._regroup_due = False
        arrays = residence.profiles_known
        updates, bases = arrays.updates[rows], arrays.bases[rows]
        grouping = self._group(names, updates, bases, arrays.counts[rows])
        before = [self.state.assignments[name] for name in names]
        fewer_or_more = grouping.chosen.num_clusters != self.state.num_clusters
        changed = fewer_or_more or grouping.labels.tolist() != before
        logger.info("clustered anew: %s", "groups have changed" if changed else "nobody moves")
        if changed:
            self._set_clusters(grouping, self._inherited_models(grouping))
        self._settle(grouping, updates, bases)

    def _inherited_models(self, grouping: ClusteringResult) -> list[Model]:
        """Mean of the members' present models, for each cluster of a new clustering."""
        inherited = []
        for members in grouping.clusters():
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
        """Keep the profiles_known' profiles, and whether they are to be clustered anew."""
        assert self._residence is not None
        memory = self._residence.state_dict()
        sharing = self._sharing.state_dict()
        notes = memory.notes | sharing.notes | {"recluster-due": self._regroup_due}
        return AlgorithmState(memory.arrays | sharing.arrays, notes)

    def load_state_dict(self, memory: AlgorithmState) -> None:
        """Take over the profiles_known."""
        self._residence = ProfileStore.load_state_dict(
            memory, self.settings.linkage, self._options()
        )
        self._regroup_due = memory.notes["recluster-due"]
        self._sharing.load_state_dict(self.state, memory)

    # -- phase 5 -----------------------------------------------------------------------------------

    def before_round(self, server_round: int, names: list[str]) -> None:
        """Regroup if due; compute S' of every source, the mean of its learners' S, once."""
        del server_round, names
        self._recluster_if_due()
        self._sharing.before_round(self.state)

    def phases_for(self, server_round: int, name: str) -> tuple[str, ...]:
        """Both phases where the cluster is somebody's source; by turns under a K:1 schedule."""
        primary = secondary = True
        if self.settings.schedule != "both":
            secondary = server_round % self.settings.secondary_period == 0
            primary = not secondary
        secondary = secondary and bool(self.state.learners(self.state.assignments[name]))
        return ("primary",) * primary + ("secondary",) * secondary

    def parts_for(self, name: str, phases: tuple[str, ...]) -> dict[str, Weights]:
        """Add S' where the client's cluster trains it, unless it is the cluster's own S.

        So it is in the first round, when all start alike, and in FedDAG-dagger.
        """
        parts = super().parts_for(name, phases)
        if "secondary" in phases:
            shared = self._sharing.start_of(self.state.assignments[name])
            if not shared.equals(parts["secondary"]):
                parts["transfer"] = shared
        return parts

    def local_training_for(self, server_round: int, name: str) -> LocalTrainingConfig:
        """Train the classifier whole, or each half with its own encoder."""
        del server_round, name
        return LocalTrainingConfig(separate_heads=self._separate_heads)

    def parts_from(self, request: TrainRequest) -> dict[str, Weights]:
        """Add what the secondary phase trains, where it was asked for."""
        parts = super().parts_from(request)
        if "secondary" in request.phases:
            parts["transfer"] = request.start_of("transfer", None)
            if request.config.separate_heads:
                parts["classifier"] = request.start_of("classifier", None)
        return parts

    def aggregate(self, server_round: int, replies: Mapping[str, TrainReply]) -> None:
        """Update P and K (Eq. 18), then add each source's update to its learners' S (Eq. 21)."""
        super().aggregate(server_round, replies)
        for learner, secondary in self._sharing.learned(self.state, replies).items():
            self.replace_part(learner, "secondary", secondary)
        self._sharing.part(self.state, replies, self.requests)
