"""Losses on held-back data: what a client says, and what is believed of it."""

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.aggregation import Weights
from feddag_flwr.records import (
    Limits,
    RecordError,
    RequestHeader,
    ValidationLosses,
    ValidationLossesRequest,
)

LIMITS = Limits(100, True, 3.0, "image", {})
LABELS = np.array([4, 4, 4, 4, 7, 7])


def weights(value):
    return Weights(np.full(3, value, np.float32))


@pytest.fixture
def request_():
    header = RequestHeader("ward-3", 5, ("x", "y"), (1, 8, 8), ((0.0, 1.0),))
    candidates = tuple({"primary": weights(i), "classifier": weights(-i)} for i in range(2))
    return ValidationLossesRequest(header, candidates, {"secondary": weights(9)})


@pytest.fixture
def losses():
    table = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 7.0], [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]])
    return ValidationLosses.of(table, LABELS)


def test_each_class_counts_alike(losses):
    # Model 0: means 2.5 and 6 of the classes; model 1: 0.5 and 2.
    assert losses.samples == 6 and losses.freedom == 4
    assert losses.losses.tolist() == [4.25, 1.25]


def test_the_covariance_is_of_the_estimate(losses):
    # Sums of squares within classes: 5 + 2, products 2 + 0, 1 + 0; sum of squared weights
    # 4 / 8^2 + 2 / 4^2.
    factor = (4 / 64 + 2 / 16) / 4
    expected = factor * np.array([[7.0, 2.0], [2.0, 1.0]])
    np.testing.assert_allclose(losses.covariance, expected)
    assert losses.variance_of_difference(0, 1) == pytest.approx(factor * (7 + 1 - 4))
    assert losses.variance_of_difference(1, 1) == 0.0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 99))
def test_variances_are_none_below_zero(labels, seed):
    table = np.random.default_rng(seed).random((3, len(labels)))
    found = ValidationLosses.of(table, np.array(labels))
    assert found.freedom == len(labels) - len(set(labels))
    assert found.variance_of_difference(0, 1) == found.variance_of_difference(1, 0) >= 0.0
    if not found.freedom:  # one sample a class: nothing is known of how losses vary
        assert not found.covariance.any()


def test_a_request_comes_back_with_all_parts(request_):
    decoded = ValidationLossesRequest.decode(request_.encode())
    assert [sorted(model) for model in decoded.models()] == [
        ["classifier", "primary", "secondary"]
    ] * 2
    assert decoded.models()[1]["classifier"].floats.tolist() == [-1.0] * 3
    # The common part travels once.
    assert request_.least_down() == 4 * 3 * 5


def test_a_reply_comes_back(request_, losses):
    found = request_.read_reply(losses.encode(request_.header), LIMITS)
    assert (found.samples, found.freedom) == (6, 4)
    for name in ("losses", "covariance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(losses, name))
    nothing = ValidationLosses.nothing(2).encode(request_.header)
    assert request_.read_reply(nothing, LIMITS).samples == 0


@pytest.mark.parametrize(
    ("key", "values", "reason"),
    [
        ("losses", [np.nan, 1.0], "NaN"),
        ("losses", [-1.0, 1.0], "no losses"),
        ("losses", [1.0, 1e13], "no losses"),
        ("losses", [1.0], "shape"),
        ("covariance", [[-1.0, 0.0], [0.0, 1.0]], "covariance"),
        ("covariance", [[1.0, 2.0], [2.0, 1.0]], "covariance"),
        ("covariance", [[1.0, 0.5], [0.4, 1.0]], "symmetric"),
        ("covariance", [[1e30, 0.0], [0.0, 1.0]], "covariance"),
    ],
)
def test_what_is_no_loss_is_refused(request_, losses, key, values, reason):
    content = losses.encode(request_.header)
    content.array_records["arrays"][f"number.{key}"] = Array(np.array(values))
    with pytest.raises(RecordError, match=reason):
        request_.read_reply(content, LIMITS)


@pytest.mark.parametrize(("key", "value"), [("samples", 101), ("samples", -1), ("freedom", 6)])
def test_numbers_that_cannot_be_are_refused(request_, losses, key, value):
    content = losses.encode(request_.header)
    content.config_records["info"][key] = value
    with pytest.raises(RecordError, match=key):
        request_.read_reply(content, LIMITS)
