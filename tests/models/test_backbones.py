"""Networks of torchvision as encoders, and group norm in the place of batch norm."""

import pytest
import torch
from torch import nn
from torchvision import models

from feddag_flwr.models.backbones import BACKBONES, backbone_name
from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.freezing import freeze, unknown_layers
from feddag_flwr.models.normalisation import groups_of, with_group_norm
from feddag_flwr.models.registry import ENCODERS, build_encoder, build_model
from feddag_flwr.training import settings as training_settings


def test_the_setting_knows_the_names_that_can_be_made():
    assert set(training_settings._MODELS) == {"auto", *ENCODERS, *BACKBONES}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("resnet18", "resnet18"),
        ("torchvision.models:convnext_tiny", "convnext_tiny"),
        ("convnext_tiny", ""),
        ("lenet", ""),
        ("mymodel:resnet18", ""),
        ("torchvision.models.resnet:resnet18", "torchvision.models.resnet:resnet18"),
    ],
)
def test_which_names_are_torchvision_s(model, name):
    assert backbone_name(model) == name


@pytest.mark.parametrize(
    ("model", "features"),
    [
        ("resnet18", 512),
        ("resnet50", 2048),
        ("efficientnet_b0", 1280),
        ("vit_b_16", 768),
        ("torchvision.models:mobilenet_v3_small", 1024),
    ],
)
def test_a_backbone_maps_images_to_what_its_last_layer_took(model, features):
    encoder = build_encoder(model, (3, 32, 32)).eval()
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, features)
    assert encoder.feature_size == features


def test_features_are_those_of_torchvision_s_own_network():
    encoder = build_encoder("resnet18", (3, 40, 32)).eval()
    whole = models.resnet18()
    whole.load_state_dict(encoder.trunk.state_dict(), strict=False)
    whole.eval()
    images = torch.rand(2, 3, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(whole.fc(encoder(images)), whole(images))


def test_a_grey_image_is_one_of_three_equal_channels():
    encoder = build_encoder("resnet18", (1, 32, 32)).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        features = encoder(images)
        # As if the first layer had the sum of its kernels over red, green and blue.
        first = encoder.trunk.conv1
        encoder.trunk.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        encoder.trunk.conv1.weight.copy_(first.weight.sum(dim=1, keepdim=True))
        torch.testing.assert_close(encoder.trunk(images), features)


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        ("resnet18", (4, 32, 32), "1 or 3 channels; these samples are 4 x 32 x 32: convert them"),
        ("resnet18", (13,), "1 or 3 channels; these samples are 13: convert them"),
        ("resnet18", (3, 32, 31), "32 x 32 pixels at least, got 32 x 31: set image-size = 32"),
        ("vit_b_16", (3, 64, 48), "square images whose side 16 divides, got 64 x 48: set image"),
        ("torchvision.models:nothing", (3, 32, 32), "torchvision has no classifier 'nothing'"),
        # Called as a factory it would take the shape for its weights, and download them.
        (
            "torchvision.models.video:r3d_18",
            (3, 32, 32),
            "no classifier 'torchvision.models.video:r3d_18', must be torchvision.models:NAME",
        ),
        ("torchvision.models:squeezenet1_1", (3, 64, 64), "0 last linear layers, must be 1"),
        ("torchvision.models:inception_v3", (3, 299, 299), "3 has more than one output"),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight init:FutureWarning")
def test_what_a_backbone_cannot_take_is_refused_in_one_sentence(model, shape, words):
    with pytest.raises(ModelError, match=words) as caught:
        build_encoder(model, shape)
    assert str(caught.value).startswith(f"setting model = '{model}': ")


def test_layers_are_frozen_by_torchvision_s_names():
    model = build_model("resnet18", (3, 32, 32), 4, dual=True, seed=1)
    assert unknown_layers(model, ["trunk.layer1", "layer1"]) == ["layer1"]
    freeze(model, ["trunk"])
    left = [name for name, each in model.named_parameters() if each.requires_grad]
    assert left == [
        "classifier.primary_head.weight", "classifier.primary_head.bias",
        "classifier.secondary_head.weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "groups"),
    [(512, 32), (64, 32), (48, 16), (32, 16), (24, 8), (6, 2), (2, 1), (7, 1)],
)
def test_groups_have_two_channels_at_least(channels, groups):
    assert groups_of(channels) == groups


def test_group_norm_takes_the_place_of_all_batch_norm():
    encoder = build_encoder("resnet18", (3, 32, 32), normalisation="group")
    kinds = [type(layer) for layer in encoder.modules()]
    assert kinds.count(nn.GroupNorm) == 20
    assert not any(issubclass(kind, nn.BatchNorm2d) for kind in kinds)
    assert not list(encoder.buffers())
    norm = encoder.trunk.layer4[0].bn1
    assert (norm.num_groups, norm.num_channels, norm.eps) == (32, 512, 1e-5)
    # It knows no batch: an image's features are the same alone and among others, in training too.
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]))


def test_weights_of_replaced_layers_stay():
    module = nn.Sequential(nn.Conv1d(1, 4, 1), nn.BatchNorm1d(4, eps=0.1))
    nn.init.constant_(module[1].weight, 3.0)
    nn.init.constant_(module[1].bias, -1.0)
    assert with_group_norm(module) == 1
    values = torch.tensor([[[0.0, 2.0], [4.0, 6.0], [1.0, 1.0], [5.0, 5.0]]])
    # Groups of two channels: 0, 2, 4, 6 with mean 3 and variance 5, and 1, 1, 5, 5 with 3 and 4.
    expected = 3 * torch.tensor([[-3.0, -1], [1, 3], [-2, -2], [2, 2]]) - 0
    expected = expected / torch.sqrt(torch.tensor([5.1, 5.1, 4.1, 4.1]))[:, None] - 1
    torch.testing.assert_close(module[1](values)[0], expected)


def test_group_norm_needs_batch_norm_to_replace():
    for model in ("vit_b_16", "small"):
        with pytest.raises(ModelError, match=f"'group': model '{model}' has no batch norm"):
            build_encoder(model, (3, 32, 32), normalisation="group")
