"""FedDAG: profile, fused similarity, clustering, complementarity graph, dual-encoder training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, mean, shift, weighted_mean
from feddag_flwr.clustering.complementarity import Complementarity, complementarity
from feddag_flwr.clustering.selection import choose
from feddag_flwr.clustering.threshold import Candidate, sweep
from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import TrainReply, TrainRequest
from feddag_flwr.similarity.proximity import Proximity, measure_proximity, pack_bases
from feddag_flwr.strategies.clustered import ClusteredStrategy
from feddag_flwr.strategies.profiling import Profiles, collect_profiles

logger = logging.getLogger("flwr")


class FedDAG(ClusteredStrategy):
    """Clustered federated learning by global data and gradient integration.

    Source: arXiv 2602.23504, Algorithm 1. The variants are settings: ``secondary`` (FedDAG,
    FedDAG-dagger, FedDAG*), ``fusion`` (FedDAG*-Data, FedDAG*-Grad), ``schedule`` (B.9),
    ``initialisation`` and ``diversity`` (A.11).
    """

    # -- phases 1 to 4 ---------------------------------------------------------------------------

    def form_clusters(self) -> None:
        """Profile the clients, cluster them, and start the clusters' models."""
        with self.watch.phase("profile"):
            profiles = collect_profiles(self)
        with self.watch.phase("similarity"):
            proximity = self._measure(profiles)
        with self.watch.phase("clustering"):
            candidates = self._sweep(proximity)
            chosen = choose(candidates)
        with self.watch.phase("complementarity"):
            graph = complementarity(
                profiles.counts,
                proximity.angles,
                chosen.labels,
                top_k=self.settings.top_k,
                aligned=self.settings.alignment,
            )
        for cluster in graph.arbitrary:
            logger.warning(
                "cluster %d: all scores of Eq. 14 are 0, its sources are arbitrary", cluster
            )
        self._start_models(profiles, chosen.labels, graph)
        profiles.encoders.close()
        self._write_phases(profiles, proximity, candidates, chosen, graph)

    def _measure(self, profiles: Profiles) -> Proximity:
        bases = pack_bases(profiles.vectors, profiles.vector_classes, len(self.state.class_names))
        return measure_proximity(
            profiles.updates,
            bases,
            profiles.counts,
            names=profiles.names,
            angle=self.settings.angle,
            weight_delta=self.settings.weight_delta,
            weight_scope=self.settings.weight_scope,
            fusion=self.settings.fusion,
            fusion_steps=self.settings.fusion_steps,
        )

    def _sweep(self, proximity: Proximity) -> list[Candidate]:
        settings = self.settings
        return sweep(
            proximity.fused,
            linkage=settings.linkage,
            thresholds=threshold_grid(settings.threshold_step),
            gamma=settings.size_gamma,
            tau=settings.size_tau,
            lam=settings.size_lambda,
        )

    def _start_models(
        self, profiles: Profiles, labels: NDArray[np.signedinteger], graph: Complementarity
    ) -> None:
        """Start P by Eq. 22, S and K at random and alike for all clusters (A.11: P too)."""
        dual = self.settings.secondary != "none"
        random = get_parts(self.initial_model(dual=dual))
        num_clusters = len(graph.sources)
        models = []
        for cluster in range(num_clusters):
            model = dict(random)
            if self.settings.initialisation == "warm":
                members = [n for n, z in zip(profiles.names, labels, strict=True) if z == cluster]
                model["primary"] = weighted_mean(
                    [profiles.encoders.get(name) for name in members],
                    [self.state.clients[name].train_samples for name in members],
                )
            models.append(model)
        self.state.set_clusters(profiles.names, labels.tolist(), models, self._sources(graph))

    def _sources(self, graph: Complementarity) -> Sequence[Sequence[int]]:
        """Return who learns from whom; FedDAG-dagger's clusters learn from themselves."""
        if self.settings.secondary == "none":
            return ()
        if self.settings.secondary == "own":
            return [[cluster] for cluster in range(len(graph.sources))]
        if len(graph.sources) == 1:
            logger.warning("one cluster only: nobody trains its secondary encoder")
        return graph.sources

    def _write_phases(
        self,
        profiles: Profiles,
        proximity: Proximity,
        candidates: Sequence[Candidate],
        chosen: Candidate,
        graph: Complementarity,
    ) -> None:
        self.folder.write_arrays(
            "proximity.npz",
            {
                "clients": np.array(profiles.names),
                "counts": profiles.counts,
                "gradient": proximity.gradient,
                "data": proximity.data,
                "fusion-weights": proximity.weights,
                "fused": proximity.fused,
            },
        )
        self.folder.write_json(
            "clustering.json",
            {
                "threshold": chosen.threshold,
                "num-clusters": chosen.num_clusters,
                "sweep": [_sweep_row(candidate) for candidate in candidates],
                "assignments": self.state.assignments,
                "sources": [list(row) for row in self.state.sources],
                "scores": [
                    [None if p == q else float(score) for q, score in enumerate(row)]
                    for p, row in enumerate(graph.scores)
                ],
                "demand": graph.demand.tolist(),
                "supply": graph.supply.tolist(),
            },
        )
        logger.info(
            "%d clusters at threshold %.3f, mean fusion weight %.2f",
            chosen.num_clusters, chosen.threshold, float(proximity.weights.mean()),
        )  # fmt: skip

    # -- phase 5 -----------------------------------------------------------------------------------

    def phases_of(self, server_round: int, cluster: int) -> tuple[str, ...]:
        """Both phases where the cluster is somebody's source; by turns under a K:1 schedule."""
        primary = secondary = True
        if self.settings.schedule != "both":
            primaries = int(self.settings.schedule.partition(":")[0])
            secondary = server_round % (primaries + 1) == 0
            primary = not secondary
        phases = ("primary",) if primary else ()
        return (*phases, "secondary") if secondary and self.state.learners(cluster) else phases

    def parts_for(self, cluster: int, phases: tuple[str, ...]) -> dict[str, Weights]:
        """Add S', the mean of the learners' secondary encoders, where the cluster trains it."""
        parts = dict(self.state.models[cluster])
        if "secondary" in phases:
            parts["shared"] = self._shared(cluster)
        return parts

    def _shared(self, source: int) -> Weights:
        learners = self.state.learners(source)
        return mean([self.state.models[learner]["secondary"] for learner in learners])

    def parts_from(self, request: TrainRequest) -> dict[str, Weights]:
        """Add the trained S' where the secondary phase was asked for."""
        parts = super().parts_from(request)
        if "secondary" in request.phases:
            parts["shared"] = request.parts["shared"]
        return parts

    def aggregate(self, replies: Mapping[str, TrainReply]) -> None:
        """Update P and K (Eq. 18), then add each source's update to its learners' S (Eq. 21)."""
        super().aggregate(replies)
        starts = {source: self._shared(source) for source in self._training_sources(replies)}
        for source, start in starts.items():
            members = [
                reply
                for name, reply in replies.items()
                if self.state.assignments[name] == source and "shared" in reply.parts
            ]
            trained = weighted_mean(
                [reply.parts["shared"] for reply in members],
                [reply.samples for reply in members],
            )
            for learner in self.state.learners(source):
                model = self.state.models[learner]
                model["secondary"] = shift(model["secondary"], trained, start)

    def _training_sources(self, replies: Mapping[str, TrainReply]) -> list[int]:
        return sorted(
            {self.state.assignments[n] for n, reply in replies.items() if "shared" in reply.parts}
        )


def threshold_grid(step: float) -> list[float] | None:
    """Candidate thresholds step, 2 step, .. 1 (S_alpha); None, for every merge height, at 0."""
    if step == 0:
        return None
    count = int(1 / step + 1e-9)
    return [round((index + 1) * step, 10) for index in range(count)]


def _sweep_row(candidate: Candidate) -> dict[str, Any]:
    return {
        "threshold": candidate.threshold,
        "num-clusters": candidate.num_clusters,
        "loss": candidate.loss,
        "loss-within": candidate.within,
        "loss-size": candidate.size,
    }
