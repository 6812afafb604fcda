import numpy as np
import pytest

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.cfl_gp.messages import GradientRequest
from feddag_flwr.records import Limits, RecordError, RequestHeader

HEADER = RequestHeader("client-2", 3, ("0", "1"), (1, 8, 8), ((0.3, 0.4),))
LIMITS = Limits(10)
MODEL = {
    "primary": Weights(np.ones(3, np.float32), buffers=np.ones(2, np.float32)),
    "classifier": Weights(np.ones(2, np.float32)),
}


def reply(header, gradient):
    """What a client of a header sends."""
    return header.reply({name: Weights(floats) for name, floats in gradient.items()})


def test_a_gradient_has_the_order_of_the_requests_parts():
    request = GradientRequest.decode(GradientRequest(HEADER, MODEL).encode())
    assert request.header == HEADER
    found = {"classifier": np.array([4, 5], np.float32), "primary": np.array([1, 2, 3], np.float32)}
    values = request.read_reply(reply(HEADER, found), LIMITS)
    np.testing.assert_array_equal(values, [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"primary": [1, 2, 3]}, "holds parts"),
        (
            {"primary": [1, 2], "classifier": [4, 5]},
            r"shape \(2,\), must have \(3,\)",
        ),
        ({"primary": [1, np.inf, 3], "classifier": [4, 5]}, "NaN or infinite"),
    ],
)
def test_a_gradient_of_another_model_is_refused(found, message):
    arrays = {name: np.array(values, np.float32) for name, values in found.items()}
    with pytest.raises(RecordError, match=message):
        GradientRequest(HEADER, MODEL).read_reply(reply(HEADER, arrays), LIMITS)


def test_a_gradient_of_another_client_is_refused():
    other = RequestHeader("client-1", 3, ("0", "1"), (1, 8, 8), ((0.3, 0.4),))
    arrays = {name: weights.floats for name, weights in MODEL.items()}
    with pytest.raises(RecordError, match="client"):
        GradientRequest(HEADER, MODEL).read_reply(reply(other, arrays), LIMITS)
