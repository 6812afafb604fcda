"""Private trainings of a model, without any messages, and the settings of a run of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from private_settings import PRIVATE
from torch import nn

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY
from feddag_flwr.optimisers.sgd import SGD
from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.privacy.training import TrainingPlan
from feddag_flwr.trainers import PrivateTraining, TrainJob
from feddag_flwr.trainers.descent import descend
from feddag_flwr.trainers.whole_model import WholeModel

# FedAvg with private training; quick, so few steps.
TRAINED = {
    "algorithm": "fedavg",
    "training_epsilon": 3.0,
    "training_sampling_rate": 0.5,
    "standardise": False,
}
# FedDAG, whose profiles must be private, too.
BOTH = PRIVATE | {"training_epsilon": 3.0, "training_sampling_rate": 0.5}

# Neither noise nor clipping, all samples in each step.
BARE = TrainingPlan(delta=1e-5, clip=1e6, rate=1.0, steps=1, passes=1, noise=0.0, number_noise=0.0)


def private_job(model, samples, plan, method=None, *, told=None, noise=None, **config):
    """A job that trains privately; `told` is the true number of samples by default."""
    config = LocalTrainingConfig(**{"momentum": 0.0, "learning_rate": 0.1} | config)
    rng = np.random.default_rng(0)
    job = TrainJob(model, samples, config, CROSS_ENTROPY, SGD, rng, method or WholeModel())
    told = len(samples) if told is None else told
    return replace(job, private=PrivateTraining(plan, told, noise or GaussianNoise()))


class BatchNormed(nn.Sequential):
    """An encoder of one's own that mixes samples."""

    feature_size = 4

    def __init__(self, shape):
        size = int(np.prod(shape))
        super().__init__(nn.Flatten(), nn.BatchNorm1d(size), nn.Linear(size, 4))


class Linear(nn.Module):
    """Weights whose gradient under `linear_loss` is a sample."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(values))


def descend_linearly(samples, plan, noise=None, *, told=None, rate=1.0):
    """Train weights that begin at 0 on a loss whose gradient is the sample; return the weights."""
    model = Linear(samples.stored.shape[1])
    job = private_job(None, samples, plan, told=told, noise=noise, learning_rate=rate)
    descend(job, model, lambda index: (samples.inputs(index) @ model.weight).sum())
    return model.weight.detach().numpy()
