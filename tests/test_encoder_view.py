"""Subspaces of a frozen encoder's features: the same at all clients, and short."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from memory_grid import MemoryGrid, quick_settings, run_quickly
from safetensors.torch import save_file
from torchvision import models

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import SampleSpec
from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.frozen import FrozenEncoder
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.simulation.grid import FIRST_NODE
from feddag_flwr.subspace_view import make_view, view_features
from feddag_flwr.training.profile import class_subspaces, leading_vectors, make_profile

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


def test_a_profile_looks_at_each_image_once(weights, monkeypatch):
    looked = []
    features = FrozenEncoder.features

    def counted(encoder, inputs):
        looked.extend(each.tobytes() for each in inputs)
        return features(encoder, inputs)

    monkeypatch.setattr(FrozenEncoder, "features", counted)
    settings = Settings.from_run_config(config_of(weights, **{"max-class-samples": 12}))
    data = LabelledSamples(images(40), np.repeat(np.arange(2), 20))
    start = {"primary": Weights(np.zeros(50, dtype=np.float32))}
    made = make_profile(
        start, start, data, settings, client="ward", num_classes=2, coordinate_seed=1,
        gradient_fraction=0.1, scale=SCALE, spec=SPEC, directions=True, looks=True,
    )  # fmt: skip
    assert len(looked) == len(set(looked)) == 40
    alone = class_subspaces(
        data, settings, generator(1, "subspace-samples", client="ward"), SCALE, SPEC
    )
    np.testing.assert_allclose(made.vectors, alone[0], atol=1e-5)


class OtherFileAtOneHost(MemoryGrid):
    """While the second node answers, its host has another file of weights."""

    def answer(self, message):
        file = Path(self.contexts[FIRST_NODE + 1].run_config["view-weights"])
        if message.metadata.dst_node_id != FIRST_NODE + 1:
            return super().answer(message)
        right = file.read_bytes()
        file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        try:
            return super().answer(message)
        finally:
            file.write_bytes(right)


@pytest.mark.integration
def test_another_file_at_one_host_costs_that_client_alone(tmp_path, weights, caplog):
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(weights.read_bytes())
    named = {key.replace("-", "_"): value for key, value in config_of(mine).items()}
    changes = {
        "image_size": 32, "train_share": 0.1, "test_share": 0.1, "model": "small", "num_rounds": 1,
        "num_clients": 4, "client_groups": 2, "participation": 1.0, **named,
    }  # fmt: skip
    grid = OtherFileAtOneHost(quick_settings(run_dir=str(tmp_path), **changes))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, grid=grid, **changes)
    assert sorted(strategy.state.assignments) == ["client-0", "client-2", "client-3"]
    (told,) = {text for text in caplog.messages if text.startswith("describe: client on node")}
    assert f"node {FIRST_NODE + 1} is left out" in told
    assert f"view-digest = '{digest_of(weights)}'; put the federation's file there" in told


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
    with pytest.raises(ModelError, match=r"SHA-256 does not begin with .*; put the federation's"):
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
