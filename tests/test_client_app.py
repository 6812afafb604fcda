"""The ClientApp's actions, one message at a time."""

import logging

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.common.constant import ErrorCode
from judgements import hits, loss_sum
from memory_grid import quick_settings

from client_app.app import app
from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.messages import DualTrainRequest
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import DescribeRequest, Limits, RecordError, RequestHeader

CLASSES = tuple(str(digit) for digit in range(10))
SHAPE = (1, 8, 8)
HEADER = RequestHeader("client-2", 3, CLASSES, SHAPE, ((0.3, 0.4),))


def parts():
    """A cluster model, and an S' that is another encoder than its S."""
    model = get_parts(build_model("small", SHAPE, 10, dual=True, seed=1))
    other = get_parts(build_model("small", SHAPE, 10, dual=True, seed=2))
    return model | {"transfer": other["secondary"]}


def ask(given, phases, header=HEADER, *, separate_heads=False, **changes):
    settings = quick_settings(**changes)
    node = {"partition-id": 2, "num-partitions": 6}
    context = Context(1, 7, node, RecordDict(), settings.to_run_config())
    config = LocalTrainingConfig.of(settings.training)
    request = DualTrainRequest(header, given, phases, config, separate_heads)
    reply = app(Message(request.encode(), 7, "train.dual"), context)
    return request.read_reply(reply.content, Limits(settings.deployment.max_client_samples))


def test_the_phases_are_independent():
    """The secondary phase sees P and K as received, the primary phase S and not S' (Eq. 16-20)."""
    both = ask(parts(), ("primary", "secondary"))
    primary = ask(parts(), ("primary",))
    secondary = ask(parts(), ("secondary",))
    for name, alone in (("primary", primary), ("classifier", primary), ("transfer", secondary)):
        np.testing.assert_array_equal(both.parts[name].floats, alone.parts[name].floats)
    # And what is trained depends on what is held fixed.
    swapped = parts()
    swapped["secondary"] = swapped["transfer"]
    other = ask(swapped, ("primary",))
    assert (other.parts["primary"].floats != primary.parts["primary"].floats).any()


def test_the_phases_are_independent_by_halves():
    """Each phase moves its encoder and its half of K, whatever the other one does."""
    both = ask(parts(), ("primary", "secondary"), separate_heads=True)
    primary = ask(parts(), ("primary",), separate_heads=True)
    secondary = ask(parts(), ("secondary",), separate_heads=True)
    assert both.parts["primary"].equals(primary.parts["primary"])
    assert both.parts["transfer"].equals(secondary.parts["transfer"])
    single = build_model("small", SHAPE, 10, dual=False, seed=1).classifier
    size = sum(parameter.numel() for parameter in single.parameters())
    given, of_both, of_primary, of_secondary = (
        np.split(part["classifier"].floats, [size])
        for part in (parts(), both.parts, primary.parts, secondary.parts)
    )
    for half, (alone, other) in enumerate([(of_primary, of_secondary), (of_secondary, of_primary)]):
        np.testing.assert_array_equal(of_both[half], alone[half])
        np.testing.assert_array_equal(other[half], given[half])
        assert (alone[half] != given[half]).any()


def test_the_model_received_is_evaluated_and_not_the_trained_one():
    one = ask(parts(), ("primary", "secondary"))
    more = ask(parts(), ("primary",), local_epochs=5)
    assert hits(one.received) == hits(more.received)
    assert loss_sum(one.received) == loss_sum(more.received)
    assert one.received.samples > 0


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            RequestHeader("client-3", 3, CLASSES, SHAPE, ((0.3, 0.4),)),
            "for 'client-3', this is 'client-2'",
        ),
        (
            RequestHeader("client-2", 3, CLASSES, (2, 8, 8), ((0.3, 0.4), (0.3, 0.4))),
            "'client-2': samples are 8 x 8",
        ),
    ],
)
def test_a_task_for_others_is_refused(header, message):
    with pytest.raises(ValueError, match=message):
        ask(parts(), ("primary",), header=header)


def test_weights_of_another_model_are_refused():
    given = parts() | {"primary": Weights(np.zeros(5, np.float32))}
    with pytest.raises(ValueError, match="the model needs"):
        ask(given, ("primary",))


def test_the_secondary_phase_needs_both_encoders():
    given = parts()
    del given["secondary"]
    given["classifier"] = get_parts(build_model("small", SHAPE, 10, dual=False, seed=1))[
        "classifier"
    ]
    with pytest.raises(RecordError, match="needs the part 'secondary'"):
        ask(given, ("secondary",))


def test_without_an_s_prime_the_secondary_phase_trains_s():
    given = parts()
    given["transfer"] = given["secondary"]
    reply = ask(given, ("primary", "secondary"))
    alone = {name: weights for name, weights in given.items() if name != "transfer"}
    for name, weights in ask(alone, ("primary", "secondary")).parts.items():
        assert weights.equals(reply.parts[name])
        assert not weights.equals(given[name])


def test_data_that_cannot_be_used_is_told_and_not_raised(tmp_path, caplog):
    """Flower prints a traceback for whatever an app raises, once a client."""

    def described(node, **settings):
        given = {name.replace("_", "-"): value for name, value in settings.items()}
        context = Context(1, 7, node, RecordDict(), given)
        return app(Message(DescribeRequest(0).encode(), 7, "query.describe"), context)

    (tmp_path / "a.npz").write_bytes(b"no archive")
    own = {"data-path": str(tmp_path / "a.npz"), "client-name": "ward-3"}
    with caplog.at_level(logging.ERROR, logger="flwr"):
        reply = described(own, scenario="own", dataset="npz")
        assert "cannot take part: client 'ward-3': " in caplog.text
        caplog.clear()
        common = described({"partition-id": 0}, min_class_samples=900)
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert reply.error.reason.startswith(f"DataError: client 'ward-3': {tmp_path / 'a.npz'}: not a")
    assert common.error.reason.endswith("lower min-class-samples or num-clients")
    assert not caplog.records
