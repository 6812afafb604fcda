import numpy as np
import pytest
import torch
from digit_runs import CLIENT
from safetensors.numpy import load_file

from feddag_flwr.aggregation import Weights
from feddag_flwr.checkpoints import (
    CHECKPOINTS,
    AlgorithmState,
    Checkpoint,
    CheckpointError,
    CheckpointFolder,
)
from feddag_flwr.inference.served import ChoiceError, ServedClassifier, load_served
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.encoders import SmallEncoder
from feddag_flwr.settings import SettingsError


def rewrite(run, tmp_path, **changes):
    """A copy of the run's checkpoint with other contents; return the run folder."""
    old = run.checkpoint
    held = {
        name: getattr(old, name) for name in ("settings", "state", "layout", "algorithm", "notes")
    }
    folder = CheckpointFolder(tmp_path / CHECKPOINTS, keep=1)
    folder.write(Checkpoint(old.server_round, **(held | changes)))
    return tmp_path


def test_a_clients_model_is_its_clusters(feddag):
    cluster = feddag.checkpoint.state.assignments[CLIENT]
    served = load_served(feddag.path, client=CLIENT)
    assert (served.cluster, served.client, served.personal) == (cluster, CLIENT, False)
    assert (served.algorithm, served.server_round) == ("feddag", 3)
    assert served.class_names == tuple("0123456789")
    assert served.sample_shape == (1, 8, 8)
    assert served.checkpoint == feddag.checkpoint.checksum
    name = f"round-000003/models/cluster-{cluster:03d}.safetensors"
    stored = load_file(feddag.path / CHECKPOINTS / name)
    loaded = served.classifier.model.state_dict()
    assert set(loaded) == set(stored)
    assert all(np.array_equal(loaded[key].numpy(), stored[key]) for key in stored)
    assert served.classifier.model.secondary is not None


def test_a_client_unseen_in_training_has_the_model_that_it_was_placed_with(feddag, tmp_path):
    notes = feddag.checkpoint.notes | {"placements": {"client-99": 1}}
    served = load_served(rewrite(feddag, tmp_path, notes=notes), client="client-99")
    assert (served.cluster, served.client, served.personal) == (1, "client-99", False)


def test_clusters_have_their_own_models(feddag):
    images = torch.rand(3, 1, 8, 8)
    count = feddag.checkpoint.state.num_clusters
    assert count > 1
    logits = [load_served(feddag.path, cluster=z).classifier(images) for z in range(count)]
    assert not torch.allclose(logits[0], logits[1])


def test_a_single_encoder_is_one(fedavg):
    assert load_served(fedavg.path, cluster=0).classifier.model.secondary is None


def test_standardisation_is_the_run_s(feddag):
    """Against the formula, (x - mean) / deviation a channel, in double precision."""
    torch.manual_seed(3)
    model = ClusterModel(SmallEncoder((3, 8, 8)), None, 4).eval()
    scale = ((0.5, 0.25), (0.1, 0.3), (0.0, 1.0))
    images = torch.rand(5, 3, 8, 8)
    mean, deviation = (torch.tensor(each).reshape(3, 1, 1) for each in zip(*scale, strict=True))
    expected = model(((images.double() - mean) / deviation).float())
    assert torch.allclose(ServedClassifier(model, scale)(images), expected, atol=1e-5)


def test_a_personal_model_comes_before_the_cluster_s(fedavg, tmp_path):
    model = fedavg.checkpoint.state.models[0]
    own = {part: Weights(w.floats + 1, w.buffers, w.integers) for part, w in model.items()}
    path = rewrite(fedavg, tmp_path, algorithm=AlgorithmState(models={"client-1": own}))
    served = load_served(path, client="client-1")
    assert served.personal
    bias = served.classifier.model.classifier.primary_head.bias.detach().numpy()
    assert np.allclose(bias, model["classifier"].floats[-10:] + 1)
    assert not load_served(path, client="client-0").personal


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"client": "client-00"}, r"no client 'client-00'; did you mean 'client-0' or 'client-"),
        ({"client": "ward"}, "no client 'ward'; there are 'client-0', 'client-1', 'client-2', 'cl"),
        ({"cluster": 99}, "no cluster 99: the run has"),
        ({"cluster": -1}, "no cluster -1"),
        ({}, "either a cluster or a client"),
        ({"cluster": 0, "client": CLIENT}, "either a cluster or a client"),
    ],
)
def test_who_is_not_there_is_named(feddag, choice, told):
    with pytest.raises(ChoiceError, match=told):
        load_served(feddag.path, **choice)


def test_a_client_without_a_cluster_is_told_apart(feddag, tmp_path):
    state = feddag.checkpoint.state
    without = {name: z for name, z in state.assignments.items() if name != CLIENT}
    changed = type(state)(**{**vars(state), "assignments": without})
    path = rewrite(feddag, tmp_path, state=changed)
    with pytest.raises(ChoiceError, match="client 'client-0' has no cluster"):
        load_served(path, client=CLIENT)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}/x/checkpoints"):
        load_served(tmp_path / "x", cluster=0)


def test_another_architecture_than_the_run_s_is_told(feddag, tmp_path):
    settings = feddag.checkpoint.settings | {"model": "cnn3"}
    path = rewrite(feddag, tmp_path, settings=settings)
    with pytest.raises(ChoiceError, match="model = 'cnn3' makes another network than the run's"):
        load_served(path, cluster=0)


def test_settings_of_another_version_are_told(feddag, tmp_path):
    path = rewrite(feddag, tmp_path, settings=feddag.checkpoint.settings | {"momentum": 7.0})
    with pytest.raises(SettingsError, match=r"settings of the checkpoint: setting momentum = 7.0"):
        load_served(path, cluster=0)


def test_per_fedavg_s_start_is_said_to_be_one(fedavg, tmp_path, caplog):
    settings = fedavg.checkpoint.settings | {"algorithm": "per-fedavg"}
    load_served(rewrite(fedavg, tmp_path, settings=settings), cluster=0)
    assert "the common start" in caplog.text
