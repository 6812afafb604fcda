"""What a client does not answer, and what not anew, where its profile or training is private."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context
from numpy.typing import NDArray

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.privacy.noise import GaussianNoise
from feddag_flwr.privacy.training import TrainingPlan
from feddag_flwr.records import RecordError, RequestHeader
from feddag_flwr.settings import Settings
from feddag_flwr.trainers import PrivateTraining

Arrays = Mapping[str, NDArray[Any]]

# Under which Flower keeps for a node what it told of itself, from one message to the next.
_KEPT_ARRAYS, _KEPT_DIGEST = "private-profile", "private-profile-of"
_KEPT_TRAINING = "private-training"

# Message types whose answers private training covers, or that tell of no training sample.
COVERED = frozenset(
    {
        "query.describe", "query.rejection", "query.private_profile",
        "train", "train.dual", "evaluate", "evaluate.dual",
    }
)  # fmt: skip


def check_action(message_type: str, run_config: Mapping[str, Any]) -> None:
    """Refuse what would tell of training samples, where training is private."""
    epsilon = run_config.get("training-epsilon", 0.0)
    if epsilon and message_type not in COVERED:
        raise RecordError(f"training-epsilon = {epsilon:g}: {message_type} is not answered")


def check_header(header: RequestHeader) -> None:
    """Refuse questions about drift, which no epsilon covers."""
    if header.reference or header.looks:
        raise RecordError("the request asks about drift, which no epsilon covers")


def said_once(
    context: Context, data: LabelledSamples, asked: str, make: Callable[[], Arrays]
) -> Arrays:
    """Return the arrays that this node told before in this run, or make them now.

    New noise on the same samples would tell more of them, and so would the same on others. `asked`
    says what the arrays depend on besides the samples.

    Raises
    ------
    RecordError
        The samples, or what is asked, are others than they were.
    """
    state, now = context.state, _digest(data, asked)
    if _KEPT_ARRAYS not in state:
        made = make()
        state[_KEPT_ARRAYS] = ArrayRecord({key: Array(values) for key, values in made.items()})
        state[_KEPT_DIGEST] = ConfigRecord({"sha256": now})
        return made
    if state.config_records[_KEPT_DIGEST]["sha256"] != now:
        raise RecordError(
            "its data is not what its private profile was made of, and a second profile would "
            "cost more than profile-epsilon"
        )
    return {key: array.numpy() for key, array in state.array_records[_KEPT_ARRAYS].items()}


def _digest(data: LabelledSamples, asked: str) -> str:
    digest = hashlib.sha256(asked.encode())
    for sample in data.samples:
        digest.update(sample.tobytes())
    digest.update(data.labels.tobytes())
    return digest.hexdigest()


def _work(config: LocalTrainingConfig) -> str:
    return f"{config.amount} {'steps' if config.steps else 'epochs'}"


class TrainingAccount:
    """What this node has told by private training, in this run.

    It is kept by Flower for the node, like a private profile: a node that was started anew begins
    anew. The server counts requests besides.
    """

    def __init__(self, context: Context, settings: Settings) -> None:
        self._state = context.state
        self._settings = settings

    @cached_property
    def plan(self) -> TrainingPlan:
        """How it trains; looking for the noise takes seconds, once a process."""
        return TrainingPlan.of(self._settings)

    def told(self, config: LocalTrainingConfig, samples: int) -> int:
        """Return the number of samples that may be told: the one told before, or one made now."""
        if config.samples_told:
            return config.samples_told
        passes, told = self._kept()
        if not told:
            told = self.plan.number_told(samples, GaussianNoise())
            self._keep(passes, told)
        return told

    def charge(self, config: LocalTrainingConfig, samples: int) -> PrivateTraining:
        """Count one local training, before it begins.

        Raises
        ------
        RecordError
            It is not the one that the settings say, or one more than they promise.
        """
        own = LocalTrainingConfig.of(self._settings.training)
        if (asked := _work(config)) != (planned := _work(own)):
            raise RecordError(
                f"the request is for {asked}, this client's training-epsilon for {planned}"
            )
        if config.report_losses:
            raise RecordError("the request asks for losses, which training-epsilon does not cover")
        told = self.told(config, samples)
        passes, number = self._kept()
        if passes >= self.plan.passes:
            raise RecordError(
                f"training-epsilon = {self._settings.privacy.training_epsilon:g}: this client has "
                f"trained {passes} times in this run, as often as is promised"
            )
        self._keep(passes + 1, number)
        return PrivateTraining(self.plan, told)

    def _kept(self) -> tuple[int, int]:
        """Return how often this node has trained, and its number of samples as told, or 0."""
        if _KEPT_TRAINING not in self._state:
            return 0, 0
        kept = self._state.config_records[_KEPT_TRAINING]
        return int(str(kept["passes"])), int(str(kept["samples"]))

    def _keep(self, passes: int, told: int) -> None:
        self._state[_KEPT_TRAINING] = ConfigRecord({"passes": passes, "samples": told})
