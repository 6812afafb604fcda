"""Which encoders private training can differentiate sample by sample."""

import pytest
import torch
from torch import nn

from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.registry import build_encoder
from feddag_flwr.models.sample_by_sample import check_sample_by_sample


def check(encoder, *shape):
    check_sample_by_sample("own:made", encoder, torch.zeros(2, *shape))


@pytest.mark.parametrize(
    ("model", "shape"),
    [("small", (1, 8, 8)), ("lenet", (1, 28, 28)), ("cnn3", (3, 32, 32)), ("auto", (3, 8, 8))],
)
def test_the_registrys_own_can_be(model, shape):
    check(build_encoder(model, shape), *shape)


class Normalised(nn.Sequential):
    def __init__(self, norm):
        super().__init__(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(144, 5))


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm((4, 6, 6))]
)
def test_norms_of_one_sample_can_be(norm):
    check(Normalised(norm), 1, 8, 8)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
    ],
)
def test_batch_norm_cannot_be(norm):
    with pytest.raises(ModelError, match="'own:made': 1 is batch norm, which mixes samples"):
        check(Normalised(norm), 1, 8, 8)


def test_batch_norm_that_is_frozen_can_be():
    encoder = Normalised(nn.BatchNorm2d(4))
    encoder[1].requires_grad_(False)
    check(encoder, 1, 8, 8)


class Remembers(nn.Module):
    """Keeps a running mean of what it sees, by itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, inputs):
        self.mean.mul_(0.9).add_(inputs.mean(dim=0))
        return self.layer(inputs - self.mean)


class Branches(nn.Module):
    """Does one or the other, by a sample's values."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs):
        return self.layer(inputs if float(inputs.sum()) > 0 else -inputs)


@pytest.mark.parametrize("encoder", [Remembers(), Branches()])
def test_what_cannot_be_differentiated_so_is_refused_by_a_sentence(encoder):
    words = r"cannot be differentiated sample by sample \(.*\); setting training-epsilon needs"
    with pytest.raises(ModelError, match=words):
        check(encoder, 3)


def test_looking_draws_no_random_number():
    encoder = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    before = torch.get_rng_state()
    check(encoder, 3)
    assert torch.equal(torch.get_rng_state(), before)
