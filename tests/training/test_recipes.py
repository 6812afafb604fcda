"""Optimisers, schedules and losses against loops in plain PyTorch, on one client."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn
from torch.nn import functional

from feddag_flwr.algorithms.feddag.local_training import PrimaryPhase, SecondaryPhase
from feddag_flwr.local_training import LocalTrainingConfig, rate_factor
from feddag_flwr.models.freezing import freeze, unknown_layers
from feddag_flwr.models.registry import build_model
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY, CrossEntropy
from feddag_flwr.optimisers.adamw import AdamW
from feddag_flwr.optimisers.sgd import SGD
from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.whole_model import WholeModel
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import balanced_weights
from feddag_flwr.training.settings import LocalTrainingSettings

CONFIG = LocalTrainingConfig(epochs=2, batch_size=8, learning_rate=0.05, weight_decay=0.01)


def samples(count=44, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.random((count, 1, 8, 8), dtype=np.float32))
    return Samples(images, torch.from_numpy(rng.integers(0, classes, count)))


def model(dual=False):
    return build_model("small", (1, 8, 8), 3, dual=dual, seed=3, modality="image")


def train(config, trained=None, method=None, make=SGD, objective=CROSS_ENTROPY, **more):
    trained, method = trained or model(), method or WholeModel()
    rng = np.random.default_rng(7)
    job = TrainJob(trained, samples(), config, objective, make, rng, method, **more)
    return trained, job.run().losses


def plain_loop(optimiser_of, loss_of, epochs=2, clip=0.0, batch=8):
    """The same training in plain PyTorch: order from NumPy, all else PyTorch's own classes."""
    trained, data, rng = model(), samples(), np.random.default_rng(7)
    modules = nn.ModuleList([trained.primary, trained.classifier])
    optimiser = optimiser_of(modules.parameters())
    modules.train()
    for _ in range(epochs):
        for index in torch.from_numpy(rng.permutation(len(data))).split(batch):
            optimiser.zero_grad()
            loss_of(trained(data.stored[index]), data.labels[index], index).backward()
            if clip:
                nn.utils.clip_grad_norm_(modules.parameters(), clip)
            optimiser.step()
    return trained


def assert_same(first, second, tolerance=1e-6):
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance, msg=name)


def cross_entropy(logits, labels, index):
    del index
    return functional.cross_entropy(logits, labels)


def test_adamw_is_pytorchs():
    config = replace(CONFIG, learning_rate=0.003)
    ours, _ = train(config, make=AdamW)
    theirs = plain_loop(
        lambda parameters: torch.optim.AdamW(
            parameters, lr=0.003, weight_decay=0.01, foreach=False
        ),
        cross_entropy,
    )
    assert_same(ours, theirs, tolerance=0.0)


def test_a_gradient_is_clipped_by_its_whole_norm():
    ours, _ = train(replace(CONFIG, gradient_clipping=0.1))
    theirs = plain_loop(
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, weight_decay=0.01),
        cross_entropy,
        clip=0.1,
    )
    assert_same(ours, theirs)
    unclipped, _ = train(CONFIG)
    assert not torch.equal(unclipped.primary[0].weight, ours.primary[0].weight)


def test_smoothed_labels_are_pytorchs():
    ours, _ = train(CONFIG, objective=CrossEntropy(0.2))
    theirs = plain_loop(
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, weight_decay=0.01),
        lambda logits, labels, _: functional.cross_entropy(logits, labels, label_smoothing=0.2),
    )
    assert_same(ours, theirs)


def test_balanced_weights_are_scikit_learns():
    labels = samples().labels
    expected = compute_sample_weight("balanced", labels.numpy())
    np.testing.assert_allclose(balanced_weights(labels).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("method", [PrimaryPhase(), SecondaryPhase()], ids=["primary", "secondary"])
def test_weights_count_in_both_phases(method):
    """Where only class 0 counts, the loss is that of class 0, and it alone moves anything."""
    weights = (samples().labels == 0).float()
    _, losses = train(
        replace(CONFIG, learning_rate=1e-9), model(dual=True), method, weights=weights
    )
    untrained, data = model(dual=True), samples()
    with torch.no_grad():
        each = functional.cross_entropy(untrained(data.stored), data.labels, reduction="none")
    assert losses[0] == pytest.approx(float((each * weights).mean()), rel=1e-4)


def test_steps_take_the_place_of_epochs():
    """44 samples in batches of 8 are 6 batches an epoch: 9 steps are one and a half."""
    ours, losses = train(replace(CONFIG, steps=9))
    two, _ = train(replace(CONFIG, epochs=2))
    assert losses.shape == (1,)
    assert_same(train(replace(CONFIG, steps=12))[0], two, tolerance=0.0)
    assert not torch.equal(ours.primary[0].weight, two.primary[0].weight)


def test_a_model_in_mixed_precision_stays_near_the_exact_one():
    exact, exact_losses = train(CONFIG)
    mixed, losses = train(replace(CONFIG, mixed_precision=True))
    assert mixed.primary[0].weight.dtype is torch.float32
    assert_same(mixed, exact, tolerance=5e-3)
    assert 0 < np.abs(losses - exact_losses).max() < 0.02


def test_inputs_are_changed_at_random_in_both_phases():
    """An augmentation that blackens everything makes training see nothing else."""
    blackened, _ = train(CONFIG, model(dual=True), PrimaryPhase(), augment=lambda x, _: x * 0)
    data = samples()
    black = Samples(data.stored * 0, data.labels)
    expected, rng = model(dual=True), np.random.default_rng(7)
    TrainJob(expected, black, CONFIG, CROSS_ENTROPY, SGD, rng, PrimaryPhase()).run()
    assert_same(blackened, expected)


def test_frozen_layers_stay_as_they_are_and_others_move():
    frozen, before = model(), model()
    freeze(frozen, ["0"])
    train(CONFIG, frozen)
    assert torch.equal(frozen.primary[0].weight, before.primary[0].weight)
    moved, start = (next(each.classifier.parameters()) for each in (frozen, before))
    assert not torch.equal(moved, start)
    assert unknown_layers(before, ["0", "trunk"]) == ["trunk"]


def test_batch_normalisation_that_is_frozen_keeps_its_running_means():
    class Normalised(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 4))
            self.feature_size = 4

    trained = model()
    trained.primary = Normalised()
    trained.classifier.primary_head = nn.Linear(4, 3)
    freeze(trained, ["1"])
    train(CONFIG, trained)
    assert torch.equal(trained.primary[1].running_mean, torch.zeros(64))


def test_nothing_to_train_is_told():
    frozen = model(dual=True)
    freeze(frozen, [name for name, _ in frozen.primary.named_parameters()])
    with pytest.raises(ValueError, match="frozen-layers leaves nothing to train"):
        train(CONFIG, frozen, SecondaryPhase())


@pytest.mark.parametrize("warmup", [0, 3])
def test_the_cosine_schedule_is_pytorchs(warmup):
    settings = LocalTrainingSettings(rate_schedule="cosine", rate_warmup_rounds=warmup)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10 - warmup)
    rates = []
    for _ in range(10 - warmup):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        cosine.step()
    rises = [(i + 1) / (warmup + 1) for i in range(warmup)]
    ours = [rate_factor(settings, over, 10) for over in range(10)]
    np.testing.assert_allclose(ours, rises + rates, atol=1e-12)


def test_a_round_beyond_the_last_has_the_last_rate():
    settings = LocalTrainingSettings(rate_schedule="cosine")
    assert rate_factor(settings, 15, 10) == rate_factor(settings, 9, 10) > 0


def test_by_default_the_rate_is_constant():
    config = LocalTrainingConfig.scheduled(LocalTrainingSettings(), 7, 10)
    assert config == LocalTrainingConfig.of(LocalTrainingSettings())
