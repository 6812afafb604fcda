"""Subspaces of a frozen encoder's features: the same at all clients, and short."""

import hashlib
import logging

import numpy as np
import pytest
import torch
from memory_grid import run_quickly
from safetensors.torch import save_file
from torchvision import models

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import SampleSpec
from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.frozen import FrozenEncoder
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.subspace_view import make_view, view_features
from feddag_flwr.training.profile import class_subspaces, leading_vectors

SPEC = SampleSpec((3, 32, 32))
SCALE = ((0.4, 0.2), (0.5, 0.25), (0.6, 0.3))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(2)
    made = models.resnet18()
    made(torch.rand(8, 3, 32, 32))
    return made.eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(network.state_dict(), path)
    return path


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def config_of(weights, **more):
    return {
        "view": "encoder", "view-weights": str(weights), "view-digest": digest_of(weights), **more
    }  # fmt: skip


def images(count, seed=0, shape=(3, 32, 32)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_vectors_are_of_the_network_s_features(network, weights):
    settings = Settings.from_run_config(config_of(weights, **{"subspace-size": 2}))
    data = LabelledSamples(images(40), np.repeat(np.arange(2), 20))
    vectors, classes = class_subspaces(data, settings, np.random.default_rng(1), SCALE, SPEC)
    assert vectors.shape == (4, 512)
    network.fc = torch.nn.Identity()
    means, deviations = (
        torch.tensor(each).reshape(1, 3, 1, 1) for each in zip(*SCALE, strict=True)
    )
    inputs = (torch.from_numpy(data.samples).float() / 255 - means) / deviations
    with torch.no_grad():
        features = network(inputs).numpy()
    for label in (0, 1):
        expected = leading_vectors(features[data.labels == label], 2)
        np.testing.assert_allclose(vectors[classes == label], expected, atol=1e-4)


def test_the_length_is_known_without_the_file():
    name = "encoder|efficientnet_b0|00000000|nowhere.pth"
    assert view_features(name, "image", SPEC) == 1280
    view = make_view(name, "image", SampleSpec((1, 64, 48)), 1)
    assert view.in_words().startswith(
        "subspaces are of features of a frozen efficientnet_b0: 1,280 values of 3,072"
    )


def test_another_file_is_refused_by_its_digest(weights, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    with pytest.raises(ModelError, match=r"SHA-256 begins with .*; put the federation's file"):
        FrozenEncoder("resnet18", digest_of(weights), str(other)).check()
    with pytest.raises(ModelError, match="no such file on this host; every client needs it"):
        FrozenEncoder("resnet18", "00000000", "nowhere.pth").check()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"view-weights": ""}, "view-weights = '': view = 'encoder' needs it"),
        ({"view-digest": ""}, "view-digest = '': view = 'encoder' needs it"),
        ({"dataset": "npz", "scenario": "own", "modality": "embedding"}, "is none of images"),
    ],
)
def test_settings_that_name_no_encoder(weights, changes, words):
    with pytest.raises(SettingsError, match=words):
        Settings.from_run_config(config_of(weights) | changes)


@pytest.mark.integration
def test_a_run_compares_features(tmp_path, weights, caplog):
    named = {key.replace("-", "_"): value for key, value in config_of(weights).items()}
    digits = {"image_size": 32, "train_share": 0.1, "test_share": 0.1, "model": "small"}
    with caplog.at_level(logging.INFO, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, num_clients=4, client_groups=2, participation=1.0, num_rounds=1, **digits,
            **named,
        )  # fmt: skip
    assert sorted(strategy.state.assignments) == [f"client-{i}" for i in range(4)]
    assert "subspaces are of features of a frozen resnet18: 512 values of 1,024" in caplog.text
