"""Encoders that start from a local file of weights, and files that are none of theirs."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from feddag_flwr.models.pretrained import WeightsFileError, load_encoders, read_tensors
from feddag_flwr.models.registry import build_model


def dual(name="resnet18", shape=(3, 32, 32), **changes):
    return build_model(name, shape, 4, dual=True, seed=1, **changes)


@pytest.fixture(scope="module")
def resnet():
    """A network as torchvision gives it, whose statistics are not those of a new one."""
    torch.manual_seed(7)
    network = models.resnet18()
    network(torch.rand(4, 3, 32, 32))
    return network


@pytest.fixture(scope="module")
def weights(resnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(resnet.state_dict(), path)
    return path


def same(encoder, network):
    own, theirs = encoder.trunk.state_dict(), network.state_dict()
    return all(torch.equal(each, theirs[name]) for name, each in own.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_both_encoders_start_from_the_file(resnet, weights, tmp_path, suffix):
    path = weights if suffix == ".safetensors" else tmp_path / f"resnet18{suffix}"
    if path != weights:
        torch.save(resnet.state_dict(), path)
    model = dual()
    heads = [each.clone() for each in model.classifier.parameters()]
    said = load_encoders(model, str(path))
    assert same(model.primary, resnet)
    assert same(model.secondary, resnet)
    assert all(map(torch.equal, heads, model.classifier.parameters()))
    assert said == (
        f"{path}: 120 tensors taken; passed over: fc.bias, fc.weight (the last layer, whose place "
        "the classifier takes)"
    )


def test_group_norm_takes_the_weights_of_batch_norm_and_drops_its_statistics(resnet, weights):
    model = dual(normalisation="group")
    said = load_encoders(model, str(weights))
    assert torch.equal(model.secondary.trunk.bn1.weight, resnet.bn1.weight)
    assert torch.equal(model.primary.trunk.conv1.weight, resnet.conv1.weight)
    assert (
        "60 tensors taken; passed over: fc.bias, fc.weight (the last layer, whose place the "
        "classifier takes); passed over: bn1.num_batches_tracked, bn1.running_mean, "
        "bn1.running_var and 57 more (statistics of batch norm, which group norm has not)"
    ) in said


@pytest.mark.parametrize("nested", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["module.", "primary.trunk."])
def test_names_may_begin_alike_and_lie_in_a_checkpoint(resnet, tmp_path, nested, prefix):
    path, named = tmp_path / "a.pth", {prefix + n: t for n, t in resnet.state_dict().items()}
    torch.save({nested: named, "epoch": 3} if nested else named, path)
    model = dual()
    load_encoders(model, str(path))
    assert same(model.primary, resnet)


def test_a_transformer_s_places_are_resampled_for_smaller_images(tmp_path):
    torch.manual_seed(3)
    network = models.vit_b_32(image_size=64)
    path = tmp_path / "vit.safetensors"
    save_file(network.state_dict(), path)
    model = dual("torchvision.models:vit_b_32", (3, 96, 96))
    load_encoders(model, str(path))
    places = model.primary.trunk.encoder.pos_embedding
    assert places.shape == (1, 1 + 3 * 3, 768)
    before = network.encoder.pos_embedding
    assert torch.equal(places[:, 0], before[:, 0])  # that of the class token
    torch.testing.assert_close(places[0, 1], before[0, 1])  # corners stay with align_corners


def test_an_encoder_of_one_s_own_takes_what_it_knows(tmp_path):
    model = dual("small", (1, 8, 8))
    tensors = {name: each + 1 for name, each in model.primary.state_dict().items()}
    path = tmp_path / "small.safetensors"
    save_file(tensors | {"head.weight": torch.ones(1)}, path)
    said = load_encoders(model, str(path))
    assert said.endswith("4 tensors taken; passed over: head.weight (not in the encoder)")
    for encoder in (model.primary, model.secondary):
        assert all(torch.equal(each, tensors[n]) for n, each in encoder.state_dict().items())


def changed(resnet, tmp_path, change):
    tensors = {name: each.clone() for name, each in resnet.state_dict().items()}
    change(tensors)
    path = tmp_path / "changed.pth"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("layer3.0.conv1.weight"), "lacks layer3.0.conv1.weight, which the model"),
        (lambda t: t.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}),
         "conv1.weight is 64 x 1 x 7 x 7, the model's is 64 x 3 x 7 x 7; name the file's network"),
        (lambda t: t["bn1.weight"].fill_(torch.nan), "bn1.weight holds NaN or infinite numbers"),
        (lambda t: t.update({"layer1.2.conv1.weight": torch.zeros(1)}),
         "holds layer1.2.conv1.weight, which the model has not; it is of another network: name"),
    ],
)  # fmt: skip
def test_a_file_of_another_network_is_refused_by_file_key_and_remedy(
    resnet, tmp_path, change, words
):
    path = changed(resnet, tmp_path, change)
    with pytest.raises(WeightsFileError, match=words) as caught:
        load_encoders(dual(), str(path))
    assert str(caught.value).startswith(f"setting encoder-weights = '{path}': ")


class Evil:
    def __reduce__(self):
        return (open, ("evil.txt", "w"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth", None, "no such file; download it where the server runs"),
        ("a.bin", b"", "must end in .safetensors, .pt or .pth"),
        ("a.safetensors", b"nothing", "cannot be read .*; download it again"),
        ("a.pth", b"nothing", "holds more than tensors, or is no such file; write it anew with"),
        ("a.pth", pickle.dumps(Evil()), "holds more than tensors, or is no such file"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused(tmp_path, monkeypatch, name, content, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsFileError, match=words):
        read_tensors(path)
    assert not (tmp_path / "evil.txt").exists()


def test_nothing_is_unpickled_from_a_file_of_pytorch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Evil()}, tmp_path / "a.pth")
    with pytest.raises(WeightsFileError, match="holds more than tensors"):
        read_tensors(tmp_path / "a.pth")
    torch.save(nn.Linear(1, 1), tmp_path / "b.pth")
    with pytest.raises(WeightsFileError, match="holds more than tensors"):
        read_tensors(tmp_path / "b.pth")
    torch.save([1, 2], tmp_path / "c.pth")
    with pytest.raises(WeightsFileError, match="holds no tensors by name"):
        read_tensors(tmp_path / "c.pth")
    assert not (tmp_path / "evil.txt").exists()
