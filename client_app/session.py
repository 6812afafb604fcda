"""What an action needs: settings, this client's data in the federation's classes, a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import Context
from torch import Tensor

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.classes import check_sample_shape, in_classes
from feddag_flwr.data.scenarios import ClientData, load_client_data
from feddag_flwr.metrics import Evaluation
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import set_weights
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import Model, RecordError, RequestHeader
from feddag_flwr.records.values import MAX_LOSS
from feddag_flwr.seeds import derived_seed, generator
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.drift import class_shift
from feddag_flwr.training.device import Samples, check_memory, prepare_device, seed_generators
from feddag_flwr.training.evaluation import evaluate, sample_losses
from feddag_flwr.training.memo import EvaluationMemo

evaluations = EvaluationMemo()
# Half of what the server believes, since a mean may be rounded up.
WORST_LOSS = MAX_LOSS / 2


@dataclass(frozen=True)
class ClientSession:
    """Settings, data and device of one header.

    Attributes
    ----------
    settings : Settings
        The run's settings.
    data : ClientData
        This client's data, labels in the order of the federation's classes.
    device : torch.device
        Where models and data live.
    header : RequestHeader
        What is asked.
    """

    settings: Settings
    data: ClientData
    device: torch.device
    header: RequestHeader

    @classmethod
    def open(cls, context: Context, header: RequestHeader) -> ClientSession:
        """Load this client's data for a header.

        Raises
        ------
        RecordError
            The header is meant for another client, or travels in another number format.
        DataError
            This client's images or classes are none of the federation's.
        """
        settings = Settings.from_run_config(context.run_config)
        data = load_client_data(settings, context.node_config, header.server_round)
        if data.name != header.client:
            raise RecordError(f"the header is for {header.client!r}, this is {data.name!r}")
        if settings.transport != header.transport:
            raise RecordError(
                f"the header travels as {header.transport}, client {data.name!r} expects "
                f"{settings.transport} (setting transport)"
            )
        check_sample_shape(data, header.sample_shape)
        device = prepare_device(settings)
        seed_generators(
            device,
            derived_seed(
                settings.seed, "torch", server_round=header.server_round, client=data.name
            ),
        )
        return cls(settings, in_classes(data, header.class_names), device, header)

    def model(self, parts: Mapping[str, Weights]) -> ClusterModel:
        """Make the cluster model and fill it with the parts received."""
        model = build_model(
            self.settings.model,
            self.header.sample_shape,
            len(self.header.class_names),
            dual="secondary" in parts,
            seed=self.settings.seed,
        )
        self.fill(model, parts)
        # The layout that convolutions and pooling are fastest in; the numbers mean the same.
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    @staticmethod
    def fill(model: ClusterModel, parts: Mapping[str, Weights]) -> None:
        """Give a model the parts received."""
        for name, module in model.parts().items():
            if name not in parts:
                raise RecordError(f"the request lacks the part {name!r}")
            set_weights(module, parts[name])

    def train_samples(self, model: ClusterModel) -> Samples:
        """Copy the training data to the device, if the cap on memory lets it."""
        check_memory(self.settings, self.data.train, model)
        return Samples.on(self.device, self.data.train, self.header.sample_scale)

    def evaluate(self, model: ClusterModel) -> Evaluation:
        """Evaluate a model on the test data.

        A model that diverged has the worst loss there is, so that it counts as bad, not as missing.
        """
        check_memory(self.settings, self.data.test, model)
        samples = Samples.on(self.device, self.data.test, self.header.sample_scale)
        found = evaluate(model, samples, len(self.header.class_names))
        worst = WORST_LOSS * max(1, len(samples))
        return found if found.loss_sum <= worst else replace(found, loss_sum=worst)

    def evaluate_received(self, model: ClusterModel, parts: Mapping[str, Weights]) -> Evaluation:
        """Evaluate a model that holds the parts received, unless that was done already."""
        received: Model = {name: parts[name] for name in model.parts()}
        scale = self.header.sample_scale
        return evaluations.recall(received, self.data.test, scale, lambda: self.evaluate(model))

    def losses(
        self, model: ClusterModel, samples: Samples, candidates: Sequence[Model]
    ) -> Iterator[Tensor]:
        """Yield the loss of each training sample, shape (n,), under each candidate model.

        A model that diverged has the worst loss there is, not NaN: argmin would choose that.
        """
        for parts in candidates:
            self.fill(model, parts)
            losses = sample_losses(model, samples).nan_to_num(nan=WORST_LOSS)
            yield losses.clamp(max=WORST_LOSS)

    def drifted(self) -> bool:
        """Tell whether this client's classes have moved since it was profiled (A.9, Eq. 41)."""
        if not self.header.reference:
            return False
        counts = np.bincount(self.data.train.labels, minlength=len(self.header.class_names))
        return class_shift(self.header.reference, counts) > self.settings.drift_threshold

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of one draw of this client in this round."""
        return generator(
            self.settings.seed,
            purpose,
            server_round=self.header.server_round,
            client=self.header.client,
        )
