"""What trains the models of clients: one file each, and a line in `feddag_flwr.registries`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.objectives import Objective
from feddag_flwr.optimisers import MakeOptimiser, Optimiser
from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.privacy.training import TrainingPlan
from feddag_flwr.training.device import Samples


@dataclass(frozen=True, eq=False)
class RandomState:
    """Where PyTorch's global generators stand, which a user's own network may draw from.

    That of the CPU, and those of the GPUs where CUDA has been used.
    """

    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> RandomState:
        """Return where they stand."""
        used: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if used else [])

    def restore(self) -> None:
        """Put them back."""
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@dataclass(frozen=True)
class PrivateTraining:
    """That a training is to be differentially private.

    Attributes
    ----------
    told : int
        Number of samples as the client has told it with noise.
    noise : GaussianNoise
        The operating system's but in tests.
    """

    plan: TrainingPlan
    told: int
    noise: GaussianNoise = field(default_factory=GaussianNoise)


class TrainingMethod(Protocol):
    """What is trained in a model, and how: a value, so that equal ones can be put together."""

    def __call__(self, job: TrainJob, /) -> NDArray[np.float64]:
        """Train the job's model in place; return the mean loss a sample of each epoch."""


@dataclass(frozen=True, eq=False)
class TrainJob:
    """Local training of one model on one client's data; `config` names objective and optimiser.

    Attributes
    ----------
    samples : Samples
        The client's training data, on the model's device.
    rng : numpy.random.Generator
        Draws the order of the samples.
    weights : Tensor, shape (n,), optional
        What each sample's loss counts in the mean over its batch; 1 where none are given.
    random_state : RandomState, optional
        Where PyTorch's global generators stand for this client, where jobs of several wait at once;
        a trainer that lets a network draw from them (dropout) restores it first.
    augment : callable, optional
        Changes a model's inputs at random, from `rng`; None: they are taken as they are.
    private : PrivateTraining, optional
        Steps are private; who steps by other means than `descent.descend` must refuse.
    """

    model: ClusterModel
    samples: Samples
    config: LocalTrainingConfig
    objective: Objective
    make_optimiser: MakeOptimiser
    rng: np.random.Generator
    method: TrainingMethod
    weights: Tensor | None = None
    random_state: RandomState | None = None
    augment: Callable[[Tensor, np.random.Generator], Tensor] | None = None
    private: PrivateTraining | None = None

    def inputs(self, index: Tensor) -> Tensor:
        """Return the inputs of a batch, changed at random where that is asked for."""
        inputs = self.samples.inputs(index)
        return inputs if self.augment is None else self.augment(inputs, self.rng)

    def loss(self, logits: Tensor, index: Tensor) -> Tensor:
        """Return the objective's mean over a batch, each sample times its weight."""
        weights = None if self.weights is None else self.weights[index]
        return self.objective.loss(logits.float(), self.samples.labels[index], weights)

    def optimiser(self, parameters: Sequence[nn.Parameter]) -> Optimiser:
        """Make the optimiser of some parameters."""
        return self.make_optimiser(parameters, self.config)

    def run(self) -> TrainResult:
        """Train by itself."""
        if self.random_state is None:
            return TrainResult(self.method(self))
        self.random_state.restore()
        return TrainResult(self.method(self), RandomState.now())


@dataclass(frozen=True, eq=False)
class TrainResult:
    """Mean loss a sample of each epoch, float64, and where generators stand afterwards."""

    losses: NDArray[np.float64]
    random_state: RandomState | None = None


class LocalTrainer(Protocol):
    """Trains models of clients.

    Attributes
    ----------
    batches : bool
        Whether it wants jobs of many clients at once, where there are many in one process.
    """

    batches: bool

    def train(self, jobs: Sequence[TrainJob]) -> list[TrainResult]:
        """Train the model of each job in place; results in the order of the jobs."""
