import sys

import numpy as np
import pytest
import torch
from torch import nn

from feddag_flwr.aggregation import Weights, weighted_mean
from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.flat import (
    get_parts,
    get_weights,
    parameter_count,
    set_weights,
    variance_places,
)
from feddag_flwr.models.registry import build_encoder, build_model


@pytest.mark.parametrize(
    ("model", "shape", "feature_size", "parameters"),
    [
        # small, 8x8 grey: 1*16*9 + 16 = 160, 256*64 + 64 = 16,448
        ("auto", (1, 8, 8), 64, 16_608),
        # lenet, 28x28 grey: 6*25 + 6 = 156, 6*16*25 + 16 = 2,416, 256*120 + 120, 120*84 + 84
        ("auto", (1, 28, 28), 84, 156 + 2_416 + 30_840 + 10_164),
        # cnn3: 3*64*9 + 64, 64*128*9 + 128, 128*256*9 + 256, 4,096*128 + 128, 128*256 + 256
        ("auto", (3, 32, 32), 256, 1_792 + 73_856 + 295_168 + 524_416 + 33_024),
        ("lenet", (3, 50, 41), 84, None),
        ("small", (1, 5, 200), 64, None),
        ("cnn3", (1, 96, 64), 256, None),
        ("cnn3", (3, 9, 9), 256, None),
    ],
)
def test_encoders_map_any_size_to_their_features(model, shape, feature_size, parameters):
    encoder = build_encoder(model, shape)
    assert encoder(torch.rand(3, *shape)).shape == (3, feature_size)
    if parameters is not None:
        assert parameter_count(encoder) == parameters


def test_too_small_images_are_refused():
    with pytest.raises(ModelError, match="images of 16 x 16 pixels at least, got 8 x 8"):
        build_encoder("lenet", (1, 8, 8))


def test_the_dual_model_concatenates_features():
    model = build_model("small", (1, 8, 8), 10, dual=True, seed=1)
    images = torch.rand(4, 1, 8, 8)
    features = torch.cat([model.primary(images), model.secondary(images)], dim=1)
    primary_head, secondary_head = model.classifier.primary_head, model.classifier.secondary_head
    matrix = torch.cat([primary_head.weight, secondary_head.weight], dim=1)
    expected = features @ matrix.T + primary_head.bias
    torch.testing.assert_close(model(images), expected)
    assert list(model.parts()) == ["primary", "secondary", "classifier"]
    single = build_model("small", (1, 8, 8), 10, dual=False, seed=1)
    assert list(single.parts()) == ["primary", "classifier"]
    assert single(images).shape == (4, 10)
    # P and its half of K start as the single-encoder model does.
    torch.testing.assert_close(single(images), primary_head(model.primary(images)))


def test_the_start_depends_on_the_seed_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = get_parts(build_model("small", (1, 8, 8), 10, dual=True, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    two = get_parts(build_model("small", (1, 8, 8), 10, dual=True, seed=1))
    other = get_parts(build_model("small", (1, 8, 8), 10, dual=True, seed=2))
    for part in one:
        assert (one[part].floats == two[part].floats).all()
        assert (one[part].floats != other[part].floats).any()
    assert (one["primary"].floats != one["secondary"].floats).any()


class NormEncoder(nn.Sequential):
    feature_size = 4

    def __init__(self, sample_shape):
        super().__init__(nn.Flatten(), nn.Linear(int(np.prod(sample_shape)), 4), nn.BatchNorm1d(4))


def test_weights_survive_the_way_there_and_back_with_batch_norm():
    source, target = NormEncoder((1, 2, 2)), NormEncoder((1, 2, 2))
    source(torch.rand(8, 1, 2, 2))  # moves the running statistics and the counter
    weights = get_weights(source)
    # 16 + 4 of the linear layer, 4 + 4 of the norm; running mean and variance.
    assert weights.floats.shape == (28,)
    assert weights.buffers.shape == (8,)
    assert weights.integers.tolist() == [1]
    set_weights(target, weights)
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name
    assert target.state_dict()["2.num_batches_tracked"].shape == ()


def test_batch_norm_is_aggregated_as_counter_and_statistics():
    one, two = NormEncoder((1, 2, 2)), NormEncoder((1, 2, 2))
    for _ in range(3):
        one(torch.rand(8, 1, 2, 2))
    two(torch.rand(8, 1, 2, 2))
    set_weights(one, weighted_mean([get_weights(one), get_weights(two)], [1, 1]))
    counter = one.state_dict()["2.num_batches_tracked"]
    assert counter.dtype == torch.int64
    assert counter.item() == 2
    one.eval()
    assert torch.isfinite(one(torch.rand(1, 1, 2, 2))).all()


def test_weights_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"floats \(3,\), the model needs \(28,\)"):
        set_weights(NormEncoder((1, 2, 2)), Weights(np.zeros(3, np.float32)))


OWN_MODELS = """
import torch
from torch import nn
class Own(nn.Sequential):
    feature_size = 7
    def __init__(self, sample_shape):
        super().__init__(nn.Flatten(), nn.LazyLinear(7))
class NoSize(nn.Flatten):
    def __init__(self, sample_shape):
        super().__init__()
class WrongSize(NoSize):
    feature_size = 3
class Breaks(NoSize):
    feature_size = 3
    def forward(self, x):
        raise RuntimeError("bad weather")
class NotANumber(NoSize):
    feature_size = 9
    def forward(self, x):
        return super().forward(x) / 0 * 0
class Frozen(NoSize):
    feature_size = 9
def not_a_module(sample_shape):
    return 5
number = 5
"""


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    (tmp_path / "own_models_for_test.py").write_text(OWN_MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_models_for_test"
    sys.modules.pop("own_models_for_test", None)


def test_a_users_own_encoder(own_models):
    model = build_model(f"{own_models}:Own", (1, 3, 3), 5, dual=True, seed=1)
    assert model(torch.rand(2, 1, 3, 3)).shape == (2, 5)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("Missing", "has no attribute 'Missing'"),
        ("number", "not callable"),
        ("not_a_module", "made int, not nn.Module"),
        ("NoSize", "feature_size = None, must be an int"),
        ("WrongSize", r"maps 2 samples to \(2, 9\), not \(2, 3\)"),
        ("Breaks", "bad weather"),
        ("NotANumber", "maps empty samples to NaN or infinity"),
        ("Frozen", "has no parameter to train"),
    ],
)
def test_a_users_faulty_encoder_is_named(own_models, attribute, message):
    with pytest.raises(ModelError, match=message):
        build_encoder(f"{own_models}:{attribute}", (1, 3, 3))


def test_a_missing_module_is_named():
    for name in ("no_such_module:x", ":x"):
        with pytest.raises(ModelError, match=f"model = '{name}'"):
            build_encoder(name, (1, 3, 3))


def test_the_places_of_running_variances_are_those_of_the_flat_buffers():
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(2, 2), nn.BatchNorm1d(2))
    module[0].running_var.fill_(7.0)
    module[2].running_var.fill_(8.0)
    buffers = get_weights(module).buffers
    assert buffers[variance_places(module)].tolist() == [7, 7, 7, 8, 8]
    assert variance_places(nn.Linear(2, 2)).size == 0


def test_a_silent_half_leaves_the_logits_to_the_primary_encoder():
    model = build_model("small", (1, 8, 8), 10, dual=True, seed=1)
    images = torch.rand(4, 1, 8, 8)
    model.classifier.zero_secondary_head()
    assert torch.equal(model(images), model.classifier.primary_head(model.primary(images)))
    assert model.classifier.secondary_head.weight.requires_grad
    with pytest.raises(ValueError, match="no half on a secondary encoder"):
        build_model("small", (1, 8, 8), 10, dual=False, seed=1).classifier.zero_secondary_head()
