"""How a client trains: what a request says of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from feddag_flwr.training.settings import LocalTrainingSettings


@dataclass(frozen=True)
class LocalTrainingConfig:
    """Local training of one model on one client's data.

    All of it travels in the request, so that an algorithm may set it a round, a cluster or a client
    (a schedule of learning rates, say).

    Attributes
    ----------
    objective, optimiser : str
        Names in `feddag_flwr.registries`, or what the run's settings of these names say.
    proximal : float
        Weight mu of the term mu/2 |w - w_received|^2 (FedProx, FedSoft); 0: none.
    report_losses : bool
        The reply says the mean training loss of each epoch.
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

    @classmethod
    def of(cls, settings: LocalTrainingSettings) -> LocalTrainingConfig:
        """Return what the settings say."""
        return cls(
            settings.local_epochs,
            settings.batch_size,
            settings.objective,
            settings.optimiser,
            settings.learning_rate,
            settings.momentum,
            settings.weight_decay,
        )

    def with_epochs(self, epochs: int) -> LocalTrainingConfig:
        """Return the same for another number of epochs."""
        return replace(self, epochs=epochs)


# Plain SGD, as a request has it that says nothing of how to train.
PLAIN = LocalTrainingConfig()
