"""Clients train once from one model, so that what they have trained can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from feddag_flwr.aggregation import weighted_mean
from feddag_flwr.algorithms.feddag.held_back import TrainedMeans
from feddag_flwr.algorithms.feddag.messages import DualTrainRequest
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.records import Model
from feddag_flwr.records.train import TRAINED
from feddag_flwr.seeds import generator
from feddag_flwr.state import ServerState

TRAINING: Final = 200  # clients at most that train for a check


def mean_model(state: ServerState, names: Iterable[str]) -> Model:
    """Mean of the models that some clients have now, each counted by its samples."""
    shares: Counter[int] = Counter()
    for name in names:
        shares[state.assignments[name]] += state.clients[name].train_samples
    clusters = sorted(shares)
    models, samples = [state.models[z] for z in clusters], [shares[z] for z in clusters]
    return {part: weighted_mean([model[part] for model in models], samples) for part in models[0]}


def trained_from_one(context: FederationContext, server_round: int) -> tuple[Model, TrainedMeans]:
    """Let clients train the primary encoder and the classifier from the mean of their models.

    Those are all that are there, `TRAINING` at most, drawn. Returned is the model, and means of
    what they have made of it; with one encoder for all clusters, that encoder is the mean over all.
    """
    state, settings = context.state, context.settings
    settled = sorted(state.assignments.keys() - context.drifted)
    if not settled:
        return dict(state.models[0]), TrainedMeans({}, TRAINED)
    base, heads = mean_model(state, settled), settings.sharing.classifier_training == "separate"

    def requests() -> Iterator[DualTrainRequest]:
        for name in context.largest_first(_drawn(context, settled, server_round)):
            yield DualTrainRequest(
                context.header(name, server_round),
                base,
                ("primary",),
                context.local_training(),
                settings.sharing.dual and heads,
                settings.training.diversity,
            )

    replies = context.usable(context.ask(requests()), server_round)
    if settings.sharing.encoders == "two":
        return base, TrainedMeans(replies, TRAINED)
    encoder = TrainedMeans(replies, TRAINED[:1]).mean(tuple(sorted(replies))) if replies else {}
    return base | encoder, TrainedMeans(replies, TRAINED[1:])


def _drawn(context: FederationContext, settled: list[str], server_round: int) -> list[str]:
    names = context.connected(settled)
    if len(names) <= TRAINING:
        return names
    rng = generator(context.settings.run.seed, "refinement-clients", server_round=server_round)
    return [names[i] for i in sorted(rng.choice(len(names), TRAINING, replace=False))]
