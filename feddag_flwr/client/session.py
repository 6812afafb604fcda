"""What an action needs: settings, this client's data in the federation's classes, a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from flwr.app import Context, RecordDict
from torch import Tensor

from feddag_flwr.aggregation import Weights
from feddag_flwr.augmentations import NONE
from feddag_flwr.client.privacy import TrainingAccount, check_header
from feddag_flwr.data.classes import in_classes, in_spec
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data.scenarios import ClientData, load_client_data
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.metrics import Evaluation, load_metrics, metric_names
from feddag_flwr.metrics.loss import WORST_LOSS
from feddag_flwr.modalities import Modality, ModalityError, load_modality
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import set_weights
from feddag_flwr.models.freezing import freeze
from feddag_flwr.models.registry import build_model
from feddag_flwr.models.sample_by_sample import check_sample_by_sample
from feddag_flwr.objectives import Objective
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY, CrossEntropy
from feddag_flwr.optimisers import MakeOptimiser
from feddag_flwr.postprocessors import ClientContext
from feddag_flwr.postprocessors.chain import Postprocessors
from feddag_flwr.records import Drift, Model, RecordError, RequestHeader, TrainReply
from feddag_flwr.registries import AUGMENTATIONS, OBJECTIVES, OPTIMISERS
from feddag_flwr.registry import name_list
from feddag_flwr.seeds import derived_seed, generator
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.drift import class_shift
from feddag_flwr.similarity.looks import Looks
from feddag_flwr.trainers import TrainingMethod, TrainJob
from feddag_flwr.training.device import Samples, check_memory, prepare_device, seed_generators
from feddag_flwr.training.local import balanced_weights, evaluate, sample_losses
from feddag_flwr.training.memo import EvaluationMemo
from feddag_flwr.training.profile import look_features

evaluations = EvaluationMemo()


@dataclass(frozen=True)
class ClientSession:
    """Settings, data and device of one header."""

    settings: Settings
    data: ClientData
    device: torch.device
    header: RequestHeader
    account: TrainingAccount | None = None  # where training is private

    @classmethod
    def open(cls, context: Context, header: RequestHeader) -> ClientSession:
        """Load this client's data for a header.

        Raises
        ------
        RecordError
            The header is meant for another client, travels in another number format, or says of
            samples what cannot be.
        DataError
            This client's samples or classes are none of the federation's.
        """
        settings = Settings.from_run_config(context.run_config)
        alike = header.modality == settings.data.modality
        if alike:
            _check_samples(header)
        spec = header.spec if alike else None
        data = load_client_data(settings, context.node_config, header.server_round, spec)
        if data.name != header.client:
            raise RecordError(f"the header is for {header.client!r}, this is {data.name!r}")
        for setting, asked, own in (
            ("transport", header.transport, settings.run.transport),
            ("metrics", ", ".join(header.metrics), ", ".join(metric_names(settings.run.metrics))),
            ("modality", header.modality, settings.data.modality),
        ):
            if asked != own:
                raise RecordError(
                    f"the header has {setting} = {asked}, client {data.name!r} has {own} "
                    f"(setting {setting})"
                )
        if settings.privacy.on:
            check_header(header)
            data.check_parts_given(settings.privacy.wanted_by)
        data = in_spec(data, header.spec, load_modality(header.modality))
        device, server_round = prepare_device(settings.training), header.server_round
        seed = derived_seed(settings.run.seed, "torch", server_round=server_round, client=data.name)
        seed_generators(device, seed)
        account = TrainingAccount(context, settings) if settings.privacy.training_on else None
        return cls(settings, in_classes(data, header.class_names), device, header, account)

    def check_not_private(self, what: str) -> None:
        """Refuse to tell of the samples what has no noise, where profiles are private.

        A `RecordError` says so: the server should not have asked.
        """
        if self.settings.privacy.profile_on:
            raise RecordError(
                f"profile-epsilon = {self.settings.privacy.profile_epsilon:g}: no {what} is sent"
            )

    @property
    def modality(self) -> Modality:
        """The kind of this client's samples."""
        return load_modality(self.settings.data.modality)

    def model(self, parts: Mapping[str, Weights]) -> ClusterModel:
        """Make the cluster model and fill it with the parts received."""
        model = build_model(
            self.settings.training.model,
            self.header.sample_shape,
            len(self.header.class_names),
            dual="secondary" in parts,
            seed=self.settings.run.seed,
            modality=self.settings.data.modality,
            details=self.header.sample_details,
            normalisation=self.settings.training.normalisation_layer,
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
        return self._on_device(self.data.train, model)

    def samples_told(self, samples: Samples, config: LocalTrainingConfig) -> int:
        """Return the number of training samples, with noise where training is private."""
        count = len(samples)
        return count if self.account is None else self.account.told(config, count)

    def validation_samples(self, model: ClusterModel) -> Samples | None:
        """Copy what is held back from training to the device; None where nothing is."""
        held_back = self.data.validation
        return None if held_back is None else self._on_device(held_back, model)

    def _on_device(self, data: LabelledSamples, model: ClusterModel) -> Samples:
        check_memory(self.settings, data, model)
        return self.modality.to_device(self.device, data, self.header.sample_scale)

    def evaluate(self, model: ClusterModel) -> Evaluation:
        """Evaluate a model on the test data."""
        samples, classes = self._on_device(self.data.test, model), len(self.header.class_names)
        return evaluate(model, samples, classes, load_metrics(self.header.metrics))

    def evaluate_held_back(self, model: ClusterModel) -> Evaluation:
        """Evaluate a model on what is held back from training, perhaps nothing."""
        nothing = self.data.train.select(np.zeros(0, dtype=np.intp))
        held_back = nothing if self.data.validation is None else self.data.validation
        samples, classes = self._on_device(held_back, model), len(self.header.class_names)
        return evaluate(model, samples, classes, load_metrics(self.header.metrics))

    def evaluate_received(self, model: ClusterModel, parts: Mapping[str, Weights]) -> Evaluation:
        """Evaluate a model that holds the parts received, unless that was done already."""
        received: Model = {name: parts[name] for name in model.parts()}
        context = (self.settings.data.modality, self.header.sample_scale, self.header.metrics)
        return evaluations.recall(received, self.data.test, context, lambda: self.evaluate(model))

    def judge_received(
        self, model: ClusterModel, parts: Mapping[str, Weights]
    ) -> Evaluation | None:
        """Evaluate a model as received, where participants do so."""
        wanted = self.settings.run.evaluate_participants
        return self.evaluate_received(model, parts) if wanted else None

    def objective(self, name: str) -> Objective:
        """Return the objective that a request names, if it is listed or the run's own."""
        own = self.settings.training.objective
        objective: Objective = OBJECTIVES.load(OBJECTIVES.check_asked(name, own))
        return objective

    def job(
        self,
        model: ClusterModel,
        samples: Samples,
        config: LocalTrainingConfig,
        method: TrainingMethod,
        rng: np.random.Generator,
        weights: Tensor | None = None,
    ) -> TrainJob:
        """Make the job of one local training, see `TrainJob`.

        A `RegistryError` says that the config names what is neither listed nor the run's own.
        """
        own = self.settings.training
        optimiser: MakeOptimiser = OPTIMISERS.load(
            OPTIMISERS.check_asked(config.optimiser, own.optimiser)
        )
        objective = self.objective(config.objective)
        if config.label_smoothing and objective is CROSS_ENTROPY:
            objective = CrossEntropy(config.label_smoothing)
        if config.class_weights == "balanced":
            balanced = balanced_weights(samples.labels)
            weights = balanced if weights is None else weights * balanced
        freeze(model, name_list(own.frozen_layers))
        augment = self._augmenting(config.augmentation)
        job = TrainJob(
            model, samples, config, objective, optimiser, rng, method, weights, augment=augment
        )
        return job if self.account is None else self._private(job, self.account)

    def _private(self, job: TrainJob, account: TrainingAccount) -> TrainJob:
        """Make a job a private one, and count it."""
        if job.weights is not None or job.augment is not None:
            raise RecordError(
                "the request asks for class weights or an augmentation, which training-epsilon "
                "does not cover"
            )
        example = self.modality.example(self.header.spec, 2).to(self.device)
        for encoder in (job.model.primary, job.model.secondary):
            if encoder is not None:
                check_sample_by_sample(self.settings.training.model, encoder, example)
        return replace(job, private=account.charge(job.config, len(job.samples)))

    def _augmenting(self, name: str) -> Callable[[Tensor, np.random.Generator], Tensor] | None:
        """Return what changes inputs at random; None where nothing does."""
        own = self.settings.training.augmentation
        augmentation = AUGMENTATIONS.load(AUGMENTATIONS.check_asked(name, own))
        if augmentation is NONE:
            return None
        modality, scale = self.modality, self.header.sample_scale
        return lambda inputs, rng: modality.augment(inputs, scale, augmentation, rng)

    def losses(
        self,
        model: ClusterModel,
        samples: Samples,
        candidates: Sequence[Model],
        objective: Objective,
    ) -> Iterator[Tensor]:
        """Yield the loss of each training sample, shape (n,), under each candidate model.

        A model that diverged has the worst loss there is, not NaN: argmin would choose that.
        """
        for parts in candidates:
            self.fill(model, parts)
            losses = sample_losses(model, samples, objective).nan_to_num(nan=WORST_LOSS)
            yield losses.clamp(max=WORST_LOSS)

    def drifted(self) -> Drift:
        """Tell what has changed of this client's data since it was profiled."""
        return Drift(self._classes_moved(), self._looks_changed())

    def _classes_moved(self) -> bool:
        """Tell whether classes have moved (A.9, Eq. 41)."""
        if not self.header.reference:
            return False
        counts = np.bincount(self.data.train.labels, minlength=len(self.header.class_names))
        return class_shift(self.header.reference, counts) > self.settings.clustering.drift_threshold

    def _looks_changed(self) -> bool:
        """Tell whether classes look otherwise, by more than chance explains (`looks-level`)."""
        if not self.header.looks:
            return False
        try:
            before = Looks.of_numbers(self.header.looks, len(self.header.class_names))
        except ValueError as error:
            raise RecordError(str(error)) from error
        scale, train = self.header.sample_scale, self.data.train
        features = look_features(train.samples, self.settings, scale, self.header.spec)
        level: float = self.settings.clustering.looks_level
        return before.chance_of(features, train.labels) <= level

    def encode(self, reply: TrainReply) -> RecordDict:
        """Write a reply to a request to train, once the run's postprocessors have had its parts.

        The one way out for what was trained: `TrainReply.encode` alone leaves them out.
        """
        context = ClientContext(self.settings, self.header.server_round, self.header.client)
        postprocessors = Postprocessors.of(self.settings.run.postprocessors)
        carried = postprocessors.on_client(reply.parts, reply.starts, context)
        return replace(reply, carried=carried).encode(self.header)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of one draw of this client in this round."""
        return generator(
            self.settings.run.seed,
            purpose,
            server_round=self.header.server_round,
            client=self.header.client,
        )


def _check_samples(header: RequestHeader) -> None:
    """Refuse a header that says of samples what cannot be."""
    checker = load_modality(header.modality)
    try:
        checker.check(header.spec)
        checker.check_scale(header.spec, header.sample_scale)
    except ModalityError as error:
        raise RecordError(f"the header cannot be: {error}") from error
