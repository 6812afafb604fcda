"""How a client trains: what a request says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi

from feddag_flwr.training.settings import LocalTrainingSettings


@dataclass(frozen=True)
class LocalTrainingConfig:
    """Local training of one model on one client's data.

    All of it travels in the request, so that an algorithm may set it a round, a cluster or a client
    (a schedule of learning rates, say).

    Attributes
    ----------
    steps : int
        Optimiser steps in place of epochs; 0: as many as the epochs have.
    objective, optimiser, augmentation : str
        Names in `feddag_flwr.registries`, or what the run's settings of these names say.
    gradient_clipping : float
        Most Euclidean norm of a step's gradient, that of the proximal term included; 0: any.
    mixed_precision : bool
        Forward passes of training are autocast to bfloat16.
    class_weights : str
        ``none``, or ``balanced``: each sample counts n / (classes present x samples of its class).
    label_smoothing : float
        Share of cross-entropy that goes to all classes alike.
    proximal : float
        Weight mu of the term mu/2 |w - w_received|^2 (FedProx, FedSoft); 0: none.
    report_losses : bool
        The reply says the mean training loss of each epoch.
    samples_told : int
        Private training: the client's number of samples as it has told it, with noise; 0: it has
        not yet.
    """

    epochs: int = 1
    batch_size: int = 64
    objective: str = "cross-entropy"
    optimiser: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    proximal: float = 0.0
    report_losses: bool = False
    steps: int = 0
    gradient_clipping: float = 0.0
    mixed_precision: bool = False
    augmentation: str = "none"
    class_weights: str = "none"
    label_smoothing: float = 0.0
    samples_told: int = 0

    @classmethod
    def of(cls, settings: LocalTrainingSettings) -> LocalTrainingConfig:
        """Return what the settings say, at their learning rate."""
        return cls(
            settings.local_epochs,
            settings.batch_size,
            settings.objective,
            settings.optimiser,
            settings.learning_rate,
            settings.momentum,
            settings.weight_decay,
            steps=settings.local_steps,
            gradient_clipping=settings.gradient_clipping,
            mixed_precision=settings.mixed_precision,
            augmentation=settings.augmentation,
            class_weights=settings.class_weights,
            label_smoothing=settings.label_smoothing,
        )

    @classmethod
    def scheduled(
        cls, settings: LocalTrainingSettings, rounds_over: int, num_rounds: int
    ) -> LocalTrainingConfig:
        """Return what the settings say for the round that comes after `rounds_over` others."""
        config = cls.of(settings)
        factor = rate_factor(settings, rounds_over, num_rounds)
        return (
            config
            if factor == 1.0
            else replace(config, learning_rate=config.learning_rate * factor)
        )

    def with_epochs(self, epochs: int) -> LocalTrainingConfig:
        """Return the same for a number of epochs."""
        return replace(self, epochs=epochs, steps=0)

    @property
    def amount(self) -> int:
        """Optimiser steps where these are set, else epochs."""
        return self.steps or self.epochs

    def with_amount(self, amount: int) -> LocalTrainingConfig:
        """Return the same for another number of what `amount` counts."""
        return replace(self, steps=amount) if self.steps else replace(self, epochs=amount)

    @property
    def num_losses(self) -> int:
        """Mean losses that training returns: one an epoch, or one of all steps."""
        return 1 if self.steps else self.epochs


def rate_factor(settings: LocalTrainingSettings, rounds_over: int, num_rounds: int) -> float:
    """Return what the learning rate is multiplied by in the round after `rounds_over` others.

    It rises in equal steps over ``rate-warmup-rounds``, and is 1 after these or, by ``cosine``,
    falls along half a cosine, (1 + cos(pi t / T)) / 2, t being rounds since and T those that are
    left for it in all: PyTorch's ``LinearLR`` and ``CosineAnnealingLR``, a step a round.
    """
    warmup = settings.rate_warmup_rounds
    if rounds_over < warmup:
        return (rounds_over + 1) / (warmup + 1)
    if settings.rate_schedule == "constant":
        return 1.0
    left = max(1, num_rounds - warmup)
    return (1.0 + cos(pi * min(rounds_over - warmup, left - 1) / left)) / 2.0


# Plain SGD, as a request has it that says nothing of how to train.
PLAIN = LocalTrainingConfig()
