"""What trains the models of clients: one file each, and a line in `feddag_flwr.registries`."""

from feddag_flwr.trainers.job import LocalTrainer, TrainingMethod, TrainJob, TrainResult

__all__ = ["LocalTrainer", "TrainJob", "TrainResult", "TrainingMethod"]
