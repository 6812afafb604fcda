"""Number formats of weights: what rounding costs, and that nothing stands still for it."""

import json
import logging
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from memory_grid import MemoryGrid, quick_settings, run_quickly
from test_records import HEADER, decode, make_evaluation, make_profile, same, weights, wire

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.cfl_gp.messages import GradientRequest
from feddag_flwr.algorithms.feddag.messages import ProfileRequest, encode_profile
from feddag_flwr.algorithms.ifca.messages import ChoiceReply, ChoiceTrainRequest
from feddag_flwr.records import (
    EvaluateRequest,
    Limits,
    RecordError,
    TrainReply,
    TrainRequest,
    arrays_nbytes,
)
from feddag_flwr.records.transport import TRANSPORTS, Packed
from feddag_flwr.settings import CATALOGUE

pytestmark = pytest.mark.integration

# Significant bits, and how far below the largest number of a part the last full-precision one lies,
# as powers of two.
BITS = {"float16": (11, 2.0**-28), "bfloat16": (8, 2.0**-120)}
COMPACT = sorted(BITS)

finite = arrays(
    np.float32,
    st.integers(0, 12),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def header(transport):
    return replace(HEADER, transport=transport)


def test_the_formats_are_those_of_the_setting():
    assert set(CATALOGUE["transport"].field.annotation.__args__) == set(TRANSPORTS)


# -- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", COMPACT)
@given(numbers=finite)
def test_rounding_is_within_half_a_digit_of_the_format(transport, numbers):
    found = Packed.of(numbers, transport).numbers()
    bits, range_below = BITS[transport]
    exact = numbers.astype(np.float64)
    floor = max(np.abs(exact).max(initial=0) * range_below, 2.0**-126)
    bound = 2.0**-bits * np.maximum(np.abs(exact), floor)
    assert (np.abs(found - exact) <= bound).all()
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.sign(found)[found != 0], np.sign(exact)[found != 0])


@given(numbers=finite)
def test_float32_is_the_numbers_themselves(numbers):
    packed = Packed.of(numbers, "float32")
    assert packed.values is numbers
    assert packed.numbers() is numbers


@pytest.mark.parametrize("transport", COMPACT)
def test_the_extremes_of_float32_travel(transport):
    extremes = np.array([3.4e38, -3.4e38, 1.0, 0.0], np.float32)
    found = Packed.of(extremes, transport).numbers()
    np.testing.assert_allclose(found[:2], extremes[:2], rtol=2.0**-8)
    tiny = np.array([1e-45, -3e-42, 0], np.float32)
    np.testing.assert_allclose(Packed.of(tiny, transport).numbers(), tiny, rtol=2.0**-8)


@pytest.mark.parametrize("transport", COMPACT)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_does_not_travel(transport, wrong):
    with pytest.raises(ValueError, match=f"NaN or infinite values cannot travel as {transport}"):
        Packed.of(np.array([1, wrong], np.float32), transport)


# -- messages --------------------------------------------------------------------------------------

MODEL = {
    "primary": weights(1.0, 2.0, 1 / 3, buffers=[1 / 3, 0.1], integers=[2**40 + 1]),
    "classifier": weights(1 / 3),
}


def rounded(part, transport):
    return replace(part, floats=Packed.of(part.floats, transport).numbers())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_request_carries_rounded_weights_but_exact_buffers_and_counters(transport):
    content = wire(EvaluateRequest(header(transport), MODEL).encode())
    found = EvaluateRequest.decode(content)
    assert found.header == header(transport)
    for name, part in MODEL.items():
        assert same(found.parts[name], rounded(part, transport))
    sizes = {"float32": 4, "float16": 2, "bfloat16": 2}
    assert arrays_nbytes(content) == 4 * 128 + 4 * sizes[transport] + 2 * 4 + 8


@pytest.mark.parametrize("transport", COMPACT)
def test_a_reply_carries_differences_and_the_server_adds_them_to_what_it_has(transport):
    request = TrainRequest(header(transport), MODEL)
    received = TrainRequest.decode(wire(request.encode()))
    moved = {"primary": [0.5, -0.25, 2.0**-9], "classifier": [3e-6]}
    trained = {
        name: Weights(
            part.floats + np.array(moved[name], np.float32), part.buffers / 2, part.integers + 1
        )
        for name, part in received.parts.items()
    }
    reply = decoded(
        TrainReply(6, trained, received.parts, make_evaluation()).encode(received.header), request
    )
    for name, part in reply.parts.items():
        update = reply.update_of(name)
        np.testing.assert_allclose(update, moved[name], rtol=2.0**-8)
        np.testing.assert_array_equal(part.floats, MODEL[name].floats + update)
        np.testing.assert_array_equal(part.buffers, trained[name].buffers)
        np.testing.assert_array_equal(part.integers, trained[name].integers)


def decoded(content, request):
    return request.read_reply(wire(content), Limits(6))


@pytest.mark.parametrize("transport", COMPACT)
def test_of_candidates_the_difference_counts_from_the_one_chosen(transport):
    models = tuple({"primary": weights(k + 1 / 3), "classifier": weights(-k)} for k in range(3))
    request = ChoiceTrainRequest(header(transport), models)
    received = ChoiceTrainRequest.decode(wire(request.encode()))
    trained = {n: replace(w, floats=w.floats + 2.0**-6) for n, w in received.candidates[2].items()}
    reply = decoded(
        ChoiceReply(6, trained, received.candidates[2], make_evaluation(), choice=2).encode(
            received.header
        ),
        request,
    )
    for name, part in reply.parts.items():
        np.testing.assert_array_equal(part.floats, models[2][name].floats + np.float32(2.0**-6))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_update_is_what_the_client_sent(transport):
    """Adding to a large weight and subtracting again would lose most of it."""
    start = {"primary": weights(1000.0), "classifier": weights(0)}
    request = TrainRequest(header(transport), start)
    received = TrainRequest.decode(wire(request.encode()))
    trained = start | {"primary": weights(1000.0 + 2.0**-13)}
    reply = decoded(
        TrainReply(6, trained, received.parts, make_evaluation()).encode(received.header), request
    )
    assert reply.update_of("primary").tolist() == [2.0**-13]


@pytest.mark.parametrize("transport", COMPACT)
def test_a_profile_and_a_gradient_travel_in_the_format(transport):
    start = weights(0.1, 0.2, 0.3, integers=[3])
    request = ProfileRequest(header(transport), {"primary": start}, 1, 0.5)
    received = ProfileRequest.decode(wire(request.encode())).start["primary"]
    made = replace(make_profile(), encoder=replace(start, floats=received.floats + 2.0**-5))
    content = wire(encode_profile(header(transport), made, received))
    found = decode(content, header(transport), encoder=start)
    np.testing.assert_allclose(found.encoder.floats, start.floats + 2.0**-5, rtol=1e-6)
    np.testing.assert_array_equal(found.update, made.update)

    gradient = {name: Weights(part.floats) for name, part in MODEL.items()}
    content = wire(header(transport).reply(gradient))
    found = GradientRequest(header(transport), MODEL).read_reply(content, Limits(6))
    np.testing.assert_allclose(
        found, np.concatenate([part.floats for part in gradient.values()]), rtol=2.0**-8
    )


@pytest.mark.parametrize("transport", COMPACT)
def test_no_update_is_too_small_to_count(transport):
    """Hundreds of rounds of a step far below the format's resolution add up."""
    server, step, rounds = weights(1.0, -0.7), np.array([1e-6, -3e-7], np.float32), 300
    first = server.floats.copy()
    for number in range(rounds):
        request = TrainRequest(
            replace(header(transport), server_round=number),
            {"primary": server, "classifier": weights(0)},
        )
        received = TrainRequest.decode(request.encode())
        moved = replace(server, floats=received.parts["primary"].floats + step)
        trained = received.parts | {"primary": moved}
        content = TrainReply(6, trained, received.parts, make_evaluation()).encode(received.header)
        reply = request.read_reply(content, Limits(6))
        server = reply.parts["primary"]
    # float32 itself rounds each step by up to half of 2^-23.
    np.testing.assert_allclose(server.floats - first, rounds * step, atol=rounds * 2.0**-24)
    assert (rounded(server, transport).floats == rounded(weights(*first), transport).floats).any()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", COMPACT)
@pytest.mark.parametrize("trained", [np.nan, np.inf, 3.4e38])
def test_a_model_that_diverged_names_client_part_and_format(transport, trained):
    start = {"primary": weights(1.0), "classifier": weights(-3.4e38)}
    request = TrainRequest(header(transport), start)
    parts = {"primary": weights(1.5), "classifier": weights(trained)}
    with pytest.raises(RecordError, match=f"client 'ward-3', classifier: NaN .* as {transport}"):
        TrainReply(6, parts, start).encode(request.header)


@pytest.mark.parametrize("sent", TRANSPORTS)
@pytest.mark.parametrize("wanted", TRANSPORTS)
def test_server_and_client_must_mean_the_same_format(sent, wanted):
    request = TrainRequest(header(wanted), MODEL)
    content = TrainReply(6, MODEL, MODEL, make_evaluation()).encode(header(sent))
    if sent == wanted:
        decoded(content, request)
    else:
        with pytest.raises(RecordError, match=f"travels as {sent}, not {wanted}"):
            decoded(content, request)
        content["info"]["transport"] = wanted
        with pytest.raises(RecordError, match=r"exponents|must be|has shape"):
            decoded(content, request)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("transport", "float8", "transport = 'float8' must be among"),
        ("transport", 16, "is of type int"),
        ("exponents", [1], "exponents must be 2 integers"),
        ("exponents", [1, 10**6], "exponents must be 2 integers"),
        ("exponents", [0.5, 1.0], "exponents must be 2 integers"),
        ("exponents", [True, True], "exponents must be 2 integers"),
        ("exponents", [-200, 0], r"primary \(float16\) holds NaN or infinite"),
        ("exponents", None, "no 'exponents'"),
    ],
)
def test_a_faulty_format_is_refused(key, value, message):
    request = TrainRequest(header("float16"), MODEL)
    trained = {n: replace(w, floats=w.floats + 1) for n, w in MODEL.items()}
    content = TrainReply(6, trained, MODEL, make_evaluation()).encode(request.header)
    if value is None:
        del content["info"][key]
    else:
        content["info"][key] = value
    with pytest.raises(RecordError, match=message):
        decoded(content, request)


@pytest.mark.parametrize("transport", COMPACT)
def test_an_update_that_ends_in_infinity_is_refused(transport):
    start = {"primary": weights(3e38), "classifier": weights(0)}
    request = TrainRequest(header(transport), start)
    parts, other = start | {"primary": weights(1.0)}, start | {"primary": weights(-3e38)}
    content = TrainReply(6, parts, other, make_evaluation()).encode(request.header)
    with pytest.raises(RecordError, match="primary: the update is too long"):
        decoded(content, request)


# -- whole runs ------------------------------------------------------------------------------------


def wide(input_shape):
    """Build an encoder of 33 k parameters, so that headers hardly count."""
    return Features(torch.nn.Linear(math.prod(input_shape), 512), torch.nn.ReLU())


def normalised(input_shape):
    """Build an encoder with running means and variances."""
    return Features(torch.nn.Linear(math.prod(input_shape), 512), torch.nn.BatchNorm1d(512))


class Features(torch.nn.Sequential):
    feature_size = 512

    def __init__(self, *layers):
        super().__init__(torch.nn.Flatten(), *layers)


def sent_bytes(folder, name="run"):
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    found = Counter()
    for line in map(json.loads, lines):
        for way, kinds in line["bytes"].items():
            for kind, count in kinds.items():
                found[way, kind] += count
    return found


LONGER = {"num_rounds": 4, "evaluate_every": 4, "model": "test_transport:wide"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    found = {}
    for transport in TRANSPORTS:
        folder = tmp_path_factory.mktemp(transport)
        strategy, _ = run_quickly(folder, transport=transport, **LONGER)
        judged = [
            each.figures()["balanced-accuracy"] for each in strategy.evaluator.evaluations.values()
        ]
        found[transport] = strategy, np.mean(judged), sent_bytes(folder)
    return found


@pytest.mark.parametrize("transport", COMPACT)
def test_a_run_is_as_good_at_half_the_bytes(runs, transport):
    (exact, accuracy, exact_bytes), (strategy, found, found_bytes) = (
        runs["float32"],
        runs[transport],
    )
    assert accuracy > 0.7
    assert abs(found - accuracy) <= 0.01
    assert strategy.state.assignments == exact.state.assignments
    for kind in (("down", "train"), ("up", "train"), ("down", "evaluate"), ("down", "profile")):
        assert 0.5 <= found_bytes[kind] / exact_bytes[kind] < 0.51, kind
    assert found_bytes["up", "evaluate"] == exact_bytes["up", "evaluate"]


@pytest.mark.parametrize("transport", COMPACT)
def test_the_models_stay_near_those_of_float32(runs, transport):
    (exact, *_), (strategy, *_) = runs["float32"], runs[transport]
    for one, other in zip(exact.state.models, strategy.state.models, strict=True):
        for part in one:
            distance = np.linalg.norm(one[part].floats - other[part].floats)
            assert 0 < distance < 0.02 * np.linalg.norm(one[part].floats), part


def test_running_variances_stay_positive_and_counters_exact(tmp_path):
    models = {}
    for transport in TRANSPORTS:
        strategy, _ = run_quickly(
            tmp_path, name=transport, transport=transport, algorithm="fedavg",
            model="test_transport:normalised",
        )  # fmt: skip
        models[transport] = strategy.state.models[0]["primary"]
    for transport in COMPACT:
        variances = models[transport].buffers[512:]
        assert (variances > 0).all()
        np.testing.assert_allclose(variances, models["float32"].buffers[512:], rtol=0.1)
        np.testing.assert_array_equal(models[transport].integers, models["float32"].integers)


# Between them: profile, S', candidates, measure, mixture, shares, updates, gradients.
@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "ifca"},
        {"algorithm": "fedrc"},
        {"algorithm": "cfl-gp"},
        {"algorithm": "cfl-gp", "cfl_gp_profile": "gradient"},
        {"algorithm": "feddag", "held_out_share": 0.2, "personalisation_epochs": 1},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_every_exchange_goes_through_the_format(tmp_path, caplog, settings):
    exact, _ = run_quickly(tmp_path, name="exact", num_rounds=1, **settings)
    exact_bytes = sum(sent_bytes(tmp_path, "exact").values())
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(tmp_path, num_rounds=1, transport="bfloat16", **settings)
    assert "left out" not in caplog.text
    assert len(strategy.evaluator.evaluations) == len(exact.evaluator.evaluations)
    assert sum(sent_bytes(tmp_path).values()) < 0.7 * exact_bytes  # the small model's headers count
    assert not all(
        np.array_equal(one["classifier"].floats, other["classifier"].floats)
        for one, other in zip(strategy.state.models, exact.state.models, strict=True)
    )


def test_a_client_with_another_setting_refuses_and_is_named(tmp_path, caplog):
    """The format stands in every request; a client that expects another one says so."""
    settings = quick_settings(
        algorithm="fedavg", transport="float16", run_dir=str(tmp_path), participation=1.0
    )
    grid = MemoryGrid(settings)
    config = settings.to_run_config() | {"transport": "float32"}
    grid.contexts[103].run_config = config
    with caplog.at_level(logging.WARNING, logger="flwr"):
        strategy, _ = run_quickly(
            tmp_path, grid=grid, algorithm="fedavg", transport="float16", participation=1.0
        )
    assert "client client-2 is left out" in caplog.text
    assert "the header has transport = float16, client 'client-2' has float32" in caplog.text
    assert sorted(strategy.evaluator.evaluations) == [f"client-{i}" for i in (0, 1, 3, 4, 5)]
