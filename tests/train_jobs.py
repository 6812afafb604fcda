"""Single trainings of a model, without any messages."""

from __future__ import annotations

from dataclasses import replace

from feddag_flwr.algorithms.feddag.local_training import PrimaryPhase, SecondaryPhase
from feddag_flwr.algorithms.per_fedavg.local_training import FirstOrderMAML
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY
from feddag_flwr.optimisers.sgd import SGD
from feddag_flwr.trainers import TrainJob


def run(model, samples, settings, rng, epochs, method, *, proximal=0.0, weights=None):
    """Train in place by a method, as the settings say; return the losses of the epochs."""
    config = replace(LocalTrainingConfig.of(settings.training), epochs=epochs, proximal=proximal)
    return TrainJob(model, samples, config, CROSS_ENTROPY, SGD, rng, method, weights).run().losses


def train_primary(
    model, samples, settings, rng, epochs, *, proximal=0.0, weights=None, separate_heads=False
):
    """FedDAG's primary phase; of a single-encoder model, plain training."""
    method = PrimaryPhase(separate_heads, settings.training.diversity)
    return run(model, samples, settings, rng, epochs, method, proximal=proximal, weights=weights)


def train_secondary(model, samples, settings, rng, epochs, *, separate_heads=False):
    """FedDAG's secondary phase."""
    return run(model, samples, settings, rng, epochs, SecondaryPhase(separate_heads))


def train_fomaml(model, samples, settings, rng, epochs, inner_rate):
    """Per-FedAvg's training."""
    return run(model, samples, settings, rng, epochs, FirstOrderMAML(inner_rate))
