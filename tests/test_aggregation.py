import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feddag_flwr.aggregation import Weights, distance, mean, shift, weighted_mean


def weights(*floats, buffers=(), integers=()):
    return Weights(
        np.array(floats, np.float32), np.array(buffers, np.float32), np.array(integers, np.int64)
    )


def test_weighted_mean_by_hand():
    # (1 * 2 + 3 * 6) / 4 = 5; (1 * 0 + 3 * 4) / 4 = 3; counters (1 * 10 + 3 * 20) / 4 = 17.5 -> 18
    found = weighted_mean([weights(2, 0, integers=[10]), weights(6, 4, integers=[20])], [1, 3])
    assert found.floats.tolist() == [5, 3]
    assert found.integers.tolist() == [18]
    assert found.floats.dtype == np.float32
    assert found.integers.dtype == np.int64


def test_mean_counts_everybody_once():
    assert mean([weights(1), weights(2), weights(6)]).floats.tolist() == [3]


def test_shift_adds_the_update():
    # S_j + (S' after - S' before) = 10 + (3 - 1), states as trained
    found = shift(
        weights(10, buffers=[0.1], integers=[1]),
        weights(3, buffers=[0.5], integers=[7]),
        weights(1, buffers=[2], integers=[5]),
    )
    assert found.floats.tolist() == [12]
    # A running variance is a state: 0.1 + 0.5 - 2 would be no variance at all.
    assert found.buffers.tolist() == [0.5]
    assert found.integers.tolist() == [7]


def test_distance_is_the_length_of_the_update():
    assert distance(np.array([3, 5], np.float32), np.array([0, 1], np.float32)) == 5


def test_buffers_are_averaged_like_parameters():
    found = weighted_mean([weights(buffers=[2]), weights(buffers=[6])], [1, 3])
    assert found.buffers.tolist() == [5]


@given(
    arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32)),
    st.lists(st.integers(1, 10**6), min_size=4, max_size=4),
)
def test_weighted_mean_is_numpys_average_and_lies_between(rows, samples):
    found = weighted_mean([Weights(row) for row in rows], samples).floats
    np.testing.assert_allclose(found, np.average(rows, axis=0, weights=samples), atol=1e-4)
    assert (found <= rows.max(axis=0) + 1e-4).all()
    assert (found >= rows.min(axis=0) - 1e-4).all()


@pytest.mark.parametrize(
    ("members", "samples", "message"),
    [
        ([], [], "0 members"),
        ([weights(1)], [0], "must be positive, got 0"),
        ([weights(1)], [1, 2], "1 members with 2"),
        ([weights(1), weights(1, 2)], [1, 1], "differ in shape"),
    ],
)
def test_bad_arguments(members, samples, message):
    with pytest.raises(ValueError, match=message):
        weighted_mean(members, samples)
