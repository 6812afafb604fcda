"""Flat vectors and named tensors: each way by hand, and against PyTorch's own state dict."""

import numpy as np
import pytest
import torch
from torch import nn

from feddag_flwr.aggregation import Weights
from feddag_flwr.layout import ModelLayout, TensorSpec
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_parts, layout_of
from feddag_flwr.models.registry import build_model


class Tied(nn.Module):
    """All that a module can hold: norm, counters, a flag, shared layers, a buffer that stays."""

    feature_size = 3

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.again = self.first
        self.register_buffer("seen", torch.tensor([True, False]))
        self.register_buffer("small", torch.tensor(7, dtype=torch.int16))
        self.register_buffer("scratch", torch.ones(4), persistent=False)


def numpy_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_named_tensors_are_the_state_dict(dual, dtype):
    torch.manual_seed(2)
    model = ClusterModel(Tied(), Tied() if dual else None, 4).float().to(dtype)
    layout, expected = layout_of(model), numpy_of(model)
    named = layout.named(get_parts(model))
    assert named.keys() == expected.keys()
    for name, values in expected.items():
        assert named[name].dtype == values.dtype, name
        assert named[name].shape == values.shape, name
        # Doubles that came over as floats keep their seven digits.
        np.testing.assert_allclose(named[name], values, rtol=0 if dtype == torch.float32 else 1e-6)
    other = ClusterModel(Tied(), Tied() if dual else None, 4).to(dtype)
    other.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in named.items()})
    found, flat = layout.flat(named), get_parts(other)
    assert list(found) == list(flat)
    assert all(found[part].equals(weights) for part, weights in flat.items())
    assert ModelLayout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize("model", ["small", "lenet", "cnn3"])
def test_the_project_s_models_have_pytorch_s_names(model):
    made = build_model(model, (1, 28, 28), 10, dual=True, seed=1)
    named = layout_of(made).named(get_parts(made))
    assert {name: values.shape for name, values in named.items()} == {
        name: tuple(tensor.shape) for name, tensor in made.state_dict().items()
    }


def test_the_order_by_hand():
    """Parameters in module order, then float buffers, then counters, each in its own vector."""
    layout = ModelLayout(
        {
            "primary": (
                TensorSpec("a", "floats", (2, 2), "float64"),
                TensorSpec("b", "floats", (), "float32", ("c.b",)),
                TensorSpec("n", "integers", (1,), "uint8"),
            )
        }
    )
    weights = Weights(np.arange(5, dtype=np.float32), integers=np.array([255]))
    named = layout.named({"primary": weights})
    assert {name: (each.tolist(), each.dtype.name) for name, each in named.items()} == {
        "primary.a": ([[0, 1], [2, 3]], "float64"),
        "primary.b": (4, "float32"),
        "primary.c.b": (4, "float32"),
        "primary.n": ([255], "uint8"),
    }
    back = layout.flat(named)["primary"]
    assert (back.floats.tolist(), back.integers.tolist()) == ([0, 1, 2, 3, 4], [255])
    assert (back.floats.dtype, back.buffers.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize(
    ("kind", "dtype", "values", "stored"),
    [
        ("floats", "float16", np.float32([0.5, np.inf]), "float16"),
        ("floats", "float16", np.float32([0.1, 2]), "float32"),
        ("buffers", "float16", np.float32([1e9, np.nan]), "float32"),
        ("integers", "bool", np.array([0, 1]), "bool"),
        ("integers", "bool", np.array([0, 2]), "int64"),
        ("integers", "int32", np.array([1, 2**40]), "int64"),
    ],
)
def test_no_number_is_rounded_to_fit_a_type(kind, dtype, values, stored):
    layout = ModelLayout({"primary": (TensorSpec("x", kind, (2,), dtype),)})
    parts = {"floats": np.zeros(0, np.float32)} | {kind: values}
    named = layout.named({"primary": Weights(**parts)})
    assert named["primary.x"].dtype == stored
    np.testing.assert_array_equal(getattr(layout.flat(named)["primary"], kind), values)


def test_what_numpy_does_not_have_is_float32():
    model = ClusterModel(Tied(), None, 4).bfloat16()
    named = layout_of(model).named(get_parts(model))
    assert named["primary.first.weight"].dtype == np.float32
    model.load_state_dict({name: torch.from_numpy(np.array(each)) for name, each in named.items()})
    assert model.primary.first.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"x": Weights(np.zeros(2, np.float32))}, "no part 'x'; it has primary"),
        ({"primary": Weights(np.zeros(3, np.float32))}, r"of \(3, 0, 0\) numbers, .* \(2, 0, 0\)"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(model, told):
    layout = ModelLayout({"primary": (TensorSpec("w", "floats", (2,), "float32"),)})
    with pytest.raises(ValueError, match=told):
        layout.named(model)


def test_tensors_that_do_not_fit_are_refused():
    layout = ModelLayout(
        {"primary": tuple(TensorSpec(name, "floats", (2,), "float32") for name in "ab")}
    )
    with pytest.raises(ValueError, match=r"no primary\.b of shape \(2,\)"):
        layout.flat({"primary.a": np.zeros(2)})
    with pytest.raises(ValueError, match=r"no primary\.a of shape \(2,\)"):
        layout.flat({"primary.a": np.zeros((2, 1)), "primary.b": np.zeros(2)})
    assert layout.flat({}) == {}
