"""Whether an image is in a client's training data: from a model, an update, or a profile.

Scores need no shadow models: the loss under a model (Yeom et al. 2018, arXiv 1709.01604); how far a
client's training lowers it; how far an image's features lie outside of the span of a layer's
update, or its pixels outside of that of its class's principal vectors. Those who are not members
are test images, weighed so that each class is as frequent as among the members: else a score that
is high for a class would pass for an attack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.settings import Settings
from feddag_lab.attacks.attack import AttackTrial, Figures
from feddag_lab.attacks.defences import DEFENCES, NOISE, NONE, ON_PROFILES, ON_UPDATES
from feddag_lab.attacks.image_pool import DIGITS, ImagePool, pixels_of
from feddag_lab.attacks.layer_span import LayerSpan, spans_of
from feddag_lab.attacks.profile_images import projection_for
from feddag_lab.attacks.ranking import auc, class_weights, true_positives
from feddag_lab.attacks.trained_federation import (
    TrainedFederation,
    judged,
    parts_after,
    trained_federation,
)
from feddag_lab.attacks.victim import Training, Victim, scale_of
from feddag_lab.experiments.statistics import t_interval

Scores = NDArray[np.float64]

MODEL = "loss of the cluster's model"
LOSSES = "losses after a client's update"
SPAN = "span of a client's update"
SUM = "span of a cluster's summed updates"
PROFILE = "span of a profile"
# Rounds of a run; fewer where they take long.
ROUNDS = {13: 50, 67: 50, 20: 50, 60: 50, 300: 20}
# Shares of the training images that give 20 clients so many images each, as a mean.
SHARES: Mapping[str, Mapping[int, float]] = {
    DIGITS: {13: 0.2, 67: 1.0},
    "fashion-mnist": {20: 1 / 150, 60: 0.02, 300: 0.1},
}
# From so many images a client on, where runs take long: the first seed alone, and no defences.
LARGE = 300
TEST_SHARE: Mapping[str, float] = {DIGITS: 1.0, "fashion-mnist": 0.1}


class Membership:
    """Tells images that a client, or a cluster, was trained on from others."""

    name = "membership"
    title = "Members of the training data"
    formats: Mapping[str, str] = {
        "auc": ".3f", "low": ".3f", "high": ".3f", "true_positives": ".1%", "accuracy": ".1%",
    }  # fmt: skip

    def trials(
        self, dataset: str, seeds: Iterable[int], *, smallest: bool
    ) -> Sequence[AttackTrial]:
        """Vary what is looked at and images a client; defences on what they concern."""
        if smallest:
            plan = [
                (seen, min(SHARES[dataset]), 1, NONE) for seen in (PROFILE, MODEL, LOSSES, SPAN)
            ]
        else:
            plan = _plan(dataset)
        return [
            AttackTrial(
                self.name,
                dataset,
                defence,
                seed,
                {"seen": seen, "images": images, "rounds": rounds},
            )
            for place, seed in enumerate(seeds)
            for seen, images, rounds, defence in plan
            if images < LARGE or place == 0 or seen == PROFILE
        ]

    def run(self, trial: AttackTrial, pool: ImagePool) -> Figures:
        """Train a federation where a trained one is needed, and rank members and others."""
        config = {
            **pool.config, "seed": trial.seed, **DEFENCES[trial.defence],
            "train-share": SHARES[trial.dataset][int(trial.case["images"])],
            "test-share": TEST_SHARE[trial.dataset], "num-rounds": int(trial.case["rounds"]),
        }  # fmt: skip
        if trial.case["seen"] == PROFILE:
            return from_profiles(config)
        attacks = {MODEL: from_models, LOSSES: from_losses, SPAN: from_span, SUM: from_sum}
        return attacks[str(trial.case["seen"])](config)


def _plan(dataset: str) -> list[tuple[str, int, int, str]]:
    """Return what is seen, images, rounds and defence; trials of one run stand together."""
    trained = [
        (seen, images, ROUNDS[images], defence)
        for defence in (NONE, *(each for each in ON_UPDATES if each != NOISE))
        for images in SHARES[dataset]
        if defence == NONE or images < LARGE
        for seen in (MODEL, LOSSES, SPAN, SUM)
        if seen != SUM or defence == NONE
    ]
    profiles = [
        (PROFILE, images, 0, defence)
        for images in SHARES[dataset]
        for defence in (NONE, *ON_PROFILES)
    ]
    return trained + profiles


def from_models(config: Mapping[str, Any]) -> Figures:
    """Take low losses under the final model of a client's cluster for its members'."""
    federation = trained_federation(config)
    ranked, right = [], []
    for client in federation.clients:
        model = federation.model_of(client)
        sides = [judged(client, model, part) for part in (client.train_part, client.test_part)]
        ranked.append(_Ranked.of(client, *(-side.losses.numpy() for side in sides)))
        right.append(float(sides[1].right.double().mean()))
    return {**_over_clients(ranked), "accuracy": float(np.mean(right))}


def from_losses(config: Mapping[str, Any]) -> Figures:
    """Take losses that a client's round after the last one lowers most for its own images'."""
    federation = trained_federation(config)
    lowered, low = [], []
    for client in federation.clients:
        before = federation.model_of(client)
        training = _trained_once_more(federation, client)
        after = parts_after(before, training.reply.parts)
        losses = [
            [judged(client, model, part).losses.numpy() for model in (before, after)]
            for part in (client.train_part, client.test_part)
        ]
        lowered.append(_Ranked.of(client, *(old - new for old, new in losses)))
        low.append(_Ranked.of(client, *(-new for _, new in losses)))
    return {**_over_clients(lowered), "auc_of_losses": _over_clients(low)["auc"]}


def from_span(config: Mapping[str, Any]) -> Figures:
    """Take images whose features lie in the span of a linear layer's update for the client's own.

    The layer's gradient is a sum of outer products with its inputs (`linear_layer`). So of no more
    images than the layer has units the inputs of all are in its span, which others' are not.
    """
    federation = trained_federation(config)
    ranked = []
    for client in federation.clients:
        training = _trained_once_more(federation, client)
        moved = {part: training.reply.update_of(part) for part in _encoders(training)}
        spans = spans_of(client, training.received, moved, training.reply.samples)
        ranked.append(_outside(client, spans))
    return _over_clients(ranked)


def from_sum(config: Mapping[str, Any]) -> Figures:
    """Do the same with the sum of all updates of a cluster: all that secure aggregation would show.

    Whether an image is of any member of the cluster is what is asked then, a client at a time.
    """
    federation = trained_federation(config)
    clusters: dict[int, list[Victim]] = {}
    for client in federation.clients:
        clusters.setdefault(federation.cluster_of(client), []).append(client)
    ranked = []
    for members in clusters.values():
        trainings = [_trained_once_more(federation, client) for client in members]
        images = [training.reply.samples for training in trainings]
        moved = {
            part: np.sum([each.reply.samples * each.reply.update_of(part) for each in trainings], 0)
            for part in _encoders(trainings[0])
        }
        for client in members:
            spans = spans_of(client, trainings[0].received, moved, sum(images))
            ranked.append(_outside(client, spans))
    return {**_over_clients(ranked), "members": len(ranked) / len(clusters)}


def _encoders(training: Training) -> list[str]:
    """Return the parts of a reply that are encoders, S' being what a client made of S."""
    return [part for part in ("primary", "transfer") if part in training.reply.parts]


def _trained_once_more(federation: TrainedFederation, client: Victim) -> Training:
    """Have a client train in the round after the last one."""
    return client.train(federation.model_of(client), federation.state.server_round + 1)


def _outside(client: Victim, spans: Sequence[LayerSpan]) -> _Ranked:
    """Score images by how little of their features lies outside of spans."""
    sides = (
        -np.mean([span.outside_of_span(part) for span in spans], axis=0)
        for part in (client.train_part, client.test_part)
    )
    return _Ranked.of(client, *sides)


def from_profiles(config: Mapping[str, Any]) -> Figures:
    """Take images that lie in the span of their class's vectors for the client's own."""
    settings = Settings.from_run_config({**config, "warmup-rounds": 1, "warmup-epochs": 1})
    scale = scale_of(load_dataset(settings).train)
    ranked = []
    for partition in range(settings.run.num_clients):
        client = Victim.of_partition(settings, partition, scale)
        profile, projection = client.profile(), projection_for(client)
        sides = [
            _in_span(profile.vectors, profile.vector_classes, projection, part)
            for part in (client.train_part, client.test_part)
        ]
        ranked.append(_Ranked.of(client, *sides))
    return _over_clients(ranked)


class _Ranked(NamedTuple):
    """Scores of a client's training and test images, and what each of the latter counts."""

    inside: Scores
    outside: Scores
    weights: Scores

    @classmethod
    def of(cls, client: Victim, inside: Scores, outside: Scores) -> _Ranked:
        weights = class_weights(client.train_part.labels, client.test_part.labels)
        return cls(inside, outside, weights)


def _in_span(
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    projection: NDArray[np.float64] | None,
    samples: LabelledSamples,
) -> Scores:
    """Return the share of each image's length in its class's span; 0 where it has no vectors."""
    pixels = pixels_of(samples)
    rows = pixels if projection is None else pixels @ projection.T
    lengths = np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float64).tiny)
    shares: Scores = np.zeros(len(rows))
    for label in np.unique(samples.labels):
        of_class = samples.labels == label
        inside = rows[of_class] @ vectors[classes == label].T
        shares[of_class] = np.linalg.norm(inside, axis=1) / lengths[of_class]
    return shares


def _over_clients(ranked: Sequence[_Ranked]) -> dict[str, float]:
    """Mean over clients, each with a threshold of its own; Student's interval over clients."""
    areas = [auc(*each) for each in ranked]
    ends = t_interval(areas)
    assert ends is not None
    return {
        "auc": float(np.mean(areas)), "low": ends.low, "high": ends.high,
        "true_positives": float(np.mean([true_positives(*each) for each in ranked])),
    }  # fmt: skip
