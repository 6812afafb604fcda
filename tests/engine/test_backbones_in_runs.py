"""Runs of torchvision's networks, their start, and batch norm's statistics through a round."""

import numpy as np
import pytest
import torch
from memory_grid import MemoryGrid, quick_settings, run_quickly
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.models.errors import ModelError
from feddag_flwr.run_folder import RunFolder

MOMENTUM, EPS = 0.1, 1e-5


class Norm(nn.Module):
    """Batch norm of grey images, and the mean of what comes out as the one feature."""

    feature_size = 1

    def __init__(self, shape):
        super().__init__()
        self.norm = nn.BatchNorm2d(shape[0], EPS, MOMENTUM)

    def forward(self, images):
        return self.norm(images).mean(dim=(2, 3))


@pytest.fixture
def two_clients(tmp_path):
    """One with 4 images of grey level 0.2, one with 12 of 0.2 and 0.6."""
    folder = tmp_path / "clients"
    folder.mkdir()
    for name, levels in (("a", [0.2] * 4), ("b", [0.2, 0.6] * 6)):
        images = np.ones((len(levels), 4, 4), np.float32) * np.array(levels)[:, None, None]
        labels = np.arange(len(levels)) % 2
        np.savez(
            folder / f"{name}.npz", images=images.astype(np.float32), labels=labels,
            test_images=images[:2].astype(np.float32), test_labels=labels[:2],
        )  # fmt: skip
    return folder


def test_running_statistics_are_the_clients_mean_by_samples(tmp_path, two_clients):
    strategy, _ = run_quickly(
        tmp_path, dataset="npz", scenario="own", data_dir=str(two_clients), num_clients=2,
        model="test_backbones_in_runs:Norm", standardise=False, algorithm="fedavg", num_rounds=1,
        participation=1.0, evaluate_every=1, learning_rate=1e-6, weight_decay=0.0,
    )  # fmt: skip
    mean, variance = strategy.state.models[0]["primary"].buffers
    # One batch each. Means 0.2 and 0.4; variances 0 and, of 12 x 16 pixels, 0.04 x 192 / 191.
    assert mean == pytest.approx((4 * 0.1 * 0.2 + 12 * 0.1 * 0.4) / 16, rel=1e-6)
    told = 4 * 0.9 + 12 * (0.9 + 0.1 * 0.04 * 192 / 191)
    assert variance == pytest.approx(told / 16, rel=1e-6)
    assert strategy.state.models[0]["primary"].integers.tolist() == [1]
    # Judged by these statistics, not by those of the batch that is looked at.
    weights = strategy.state.models[0]
    scale, shift = weights["primary"].floats
    head, bias = weights["classifier"].floats[:2], weights["classifier"].floats[2:]
    features = (np.array([0.2, 0.6]) - mean) / np.sqrt(variance + EPS) * scale + shift
    logits = features[:, None] * head + bias
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[[0, 1], [0, 1]]
    judged = strategy.evaluator.evaluations["b"]
    assert judged.value("loss") == pytest.approx(losses.mean(), rel=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(5)
    network = models.resnet18()
    network(torch.rand(4, 3, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(network.state_dict(), path)
    return path


RESNET = {
    "model": "resnet18", "image_size": 32, "num_clients": 2, "client_groups": 2,
    "train_share": 0.02, "test_share": 0.02, "batch_size": 16, "num_rounds": 1,
    "warmup_epochs": 1, "participation": 1.0, "learning_rate": 1e-3, "min_class_samples": 1,
}  # fmt: skip


def strategy_of(tmp_path, **changes):
    settings = quick_settings(run_dir=str(tmp_path), observers="round-log", **changes)
    return build_strategy(settings, RunFolder(settings)), settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder_weights": "nowhere.pth"}, "nowhere.pth': no such file; download it where"),
        ({"model": "resnet50"}, "is 64 x 64 x 3 x 3, the model's is 64 x 64 x 1 x 1; name the"),
        ({"model": "torchvision.models:resnet34"}, "lacks layer1.2.conv1.weight, which the model"),
        ({"model": "torchvision.models:resnet19"}, "torchvision has no classifier 'resnet19'"),
        ({"model": "vit_b_16", "image_size": 40}, "whose side 16 divides, got 40 x 40"),
        ({"model": "vit_b_16", "normalisation_layer": "group"}, "has no batch norm"),
    ],
)
def test_a_file_that_does_not_fit_is_told_before_any_message(tmp_path, weights, changes, words):
    config = RESNET | {"encoder_weights": str(weights)} | changes
    with pytest.raises(ModelError, match=words):
        strategy_of(tmp_path, **config)


def test_a_file_for_another_encoder_is_told_before_anybody_trains(tmp_path, weights):
    strategy, settings = strategy_of(
        tmp_path, **RESNET | {"model": "small", "image_size": 0, "encoder_weights": str(weights)}
    )
    grid = MemoryGrid(settings)
    with pytest.raises(ModelError, match=r"0\.weight is 128 x 64 x 1 x 1, the model's is 16 x 1"):
        strategy.start(grid)
    assert {action for action, _ in grid.sent} == {"query.describe"}


def test_frozen_layers_keep_weights_and_statistics(tmp_path, weights):
    strategy, _ = run_quickly(
        tmp_path, encoder_weights=str(weights), frozen_layers="trunk",
        algorithm="fedavg", **RESNET,
    )  # fmt: skip
    from feddag_flwr.models.flat import get_parts

    start = get_parts(strategy.context.initial_model(dual=False))
    ended = strategy.state.models[0]
    assert np.array_equal(ended["primary"].floats, start["primary"].floats)
    np.testing.assert_allclose(ended["primary"].buffers, start["primary"].buffers, rtol=1e-6)
    assert not np.array_equal(ended["classifier"].floats, start["classifier"].floats)
