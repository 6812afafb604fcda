"""Recipes, candidate models, measurements, vectors and evaluations with tuning, on the wire."""

import numpy as np
import pytest
from flwr.app import Array, MetricRecord
from test_records import INF, NAN, SCALE, TASK, make_evaluation, same, weights, wire

from feddag_flwr.metrics import Evaluation
from feddag_flwr.records import (
    EvaluateReply,
    EvaluateRequest,
    Measurement,
    MeasureRequest,
    Recipe,
    RecordError,
    Task,
    TrainReply,
    TrainRequest,
    decode_vectors,
    encode_vectors,
)
from feddag_flwr.records.profile import ORTHONORMAL
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.similarity.subspace import class_angles

PARTS = {"primary": weights(1, 2), "classifier": weights(3)}
OTHER = {"primary": weights(5, 6), "classifier": weights(7)}


def arrays(content):
    return content.array_records["arrays"]


def info(content):
    return content.config_records["info"]


# -- how to train ----------------------------------------------------------------------------------


def test_a_recipe_survives_the_wire():
    recipe = Recipe(proximal=0.01, inner_rate=0.5, losses=True)
    found = TrainRequest.decode(wire(TrainRequest(TASK, PARTS, ("primary",), recipe).encode()))
    assert found.recipe == recipe
    plain = TrainRequest.decode(wire(TrainRequest(TASK, PARTS, ("primary",)).encode()))
    assert plain.recipe == Recipe()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("recipe-proximal", -0.5, "recipe-proximal = -0.5 must be 0 or more"),
        ("recipe-proximal", NAN, "recipe-proximal = nan must be 0 or more"),
        ("recipe-inner-rate", INF, "recipe-inner-rate = inf must be 0 or more, and finite"),
        ("recipe-inner-rate", "fast", "recipe-inner-rate = 'fast' is of type str"),
        ("recipe-losses", 1, "recipe-losses = 1 is of type int"),
    ],
)
def test_a_faulty_recipe_is_refused(key, value, message):
    content = TrainRequest(TASK, PARTS, ("primary",), Recipe(proximal=1.0)).encode()
    info(content)[key] = value
    with pytest.raises(RecordError, match=message):
        TrainRequest.decode(content)


def test_a_recipe_lacking_a_value_is_refused():
    content = TrainRequest(TASK, PARTS, ("primary",)).encode()
    del info(content)["recipe-inner-rate"]
    with pytest.raises(RecordError, match="no 'recipe-inner-rate'"):
        TrainRequest.decode(content)


# -- candidate models ------------------------------------------------------------------------------


def test_candidates_survive_the_wire():
    request = TrainRequest(TASK, {"shared": weights(9)}, ("primary",), candidates=(PARTS, OTHER))
    found = TrainRequest.decode(wire(request.encode()))
    assert len(found.candidates) == 2
    for got, sent in zip(found.candidates, (PARTS, OTHER), strict=True):
        assert list(got) == list(sent)
        assert all(same(got[part], sent[part]) for part in sent)
    assert same(found.start_of("primary", 1), OTHER["primary"])
    assert same(found.start_of("shared", 1), weights(9))
    assert same(TrainRequest(TASK, PARTS, ("primary",)).start_of("primary", None), weights(1, 2))


@pytest.mark.parametrize(
    "parts", [["1/primary"], ["1/primary", "0/primary"], ["0/primary", "2/primary"], ["x/primary"]]
)
def test_candidates_out_of_order_are_refused(parts):
    content = TrainRequest(TASK, {name: weights(1) for name in parts}, ("primary",)).encode()
    with pytest.raises(RecordError, match="candidate models are numbered"):
        TrainRequest.decode(content)


def reply_to_candidates(choice, numbers=None):
    request = TrainRequest(TASK, {}, ("primary",), candidates=(PARTS, OTHER))
    return TrainReply(6, OTHER, make_evaluation(), choice, numbers or {}).encode(request)


def decode_choice(content, numbers=None):
    return TrainReply.decode(
        content,
        TrainRequest(TASK, {}, ("primary",), candidates=(PARTS, OTHER)),
        expected=PARTS,
        numbers=numbers or {},
        limit=6,
    )


def test_a_choice_survives_the_wire():
    assert decode_choice(wire(reply_to_candidates(1))).choice == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (reply_to_candidates(2), "choice = 2 is none of 2 candidates"),
        (reply_to_candidates(-1), "choice = -1 is none of 2"),
        (reply_to_candidates(None), "no 'choice'"),
        (reply_to_candidates(0.0), "choice = 0.0 is of type float"),
        (reply_to_candidates(True), "choice = True is of type bool"),
    ],
)
def test_a_faulty_choice_is_refused(content, message):
    with pytest.raises(RecordError, match=message):
        decode_choice(content)


def test_a_choice_that_nobody_asked_for_is_not_read():
    reply = TrainReply.decode(
        reply_to_candidates(7),
        TrainRequest(TASK, PARTS, ("primary",)),
        expected=PARTS,
        numbers={},
        limit=6,
    )
    assert reply.choice is None


def test_numbers_survive_the_wire():
    content = wire(reply_to_candidates(0, {"losses": np.array([0.5, 0.25])}))
    assert decode_choice(content, {"losses": (2,)}).numbers["losses"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0.5]), r"losses' has shape \(1,\), must have \(2,\)"),
        (np.array([[0.5, 0.5]]), r"losses' has shape \(1, 2\), must have \(2,\)"),
        (np.array([0.5, NAN]), r"'number.losses' \(float64\) holds NaN"),
        (np.array([0.5, 0.5], np.float32), "'number.losses' is float32"),
        (None, "no array 'number.losses'"),
    ],
)
def test_faulty_numbers_are_refused(values, message):
    content = reply_to_candidates(0, {} if values is None else {"losses": values})
    with pytest.raises(RecordError, match=message):
        decode_choice(content, {"losses": (2,)})


# -- measurements ----------------------------------------------------------------------------------


def test_a_measurement_survives_the_wire():
    request = MeasureRequest.decode(wire(MeasureRequest(TASK, (PARTS, OTHER)).encode()))
    assert request.task == TASK
    assert all(same(request.candidates[1][part], OTHER[part]) for part in OTHER)
    sent = Measurement(np.array([0.5, 0.25]), np.array([2, 4]))
    found = Measurement.decode(wire(sent.encode(TASK)), TASK, count=2, limit=6)
    assert found.losses.tolist() == [0.5, 0.25]
    assert found.wins.tolist() == [2, 4]


def test_a_request_to_measure_nothing_is_refused():
    content = MeasureRequest(TASK, (PARTS,)).encode()
    info(content)["parts"] = ["primary"]
    arrays(content)["primary.floats"] = Array(np.ones(1, np.float32))
    with pytest.raises(RecordError, match="holds no model to measure"):
        MeasureRequest.decode(content)


def measured(losses=(0.5, 0.25), wins=(2, 4), task=TASK):
    return Measurement(np.array(losses, float), np.array(wins, np.int64)).encode(task)


def without(content, key):
    arrays(content).pop(key)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (measured(losses=(0.5,)), r"losses' has shape \(1,\)"),
        (measured(losses=(0.5, NAN)), "holds NaN"),
        (measured(losses=(0.5, -0.1)), "are no losses"),
        (measured(losses=(0.5, 1e13)), "are no losses"),
        (measured(wins=(0, 0)), r"wins add up to 0, must be 1\.\.6"),
        (measured(wins=(6,)), r"'wins' has shape \(1,\), must have \(2,\)"),
        (measured(wins=(-1, 7)), "wins: -1 is outside 0..6"),
        (without(measured(), "wins"), "no array 'wins'"),
        (without(measured(), "number.losses"), "no array 'number.losses'"),
        (measured(task=Task("ward-9", 4, TASK.class_names, TASK.image_shape, SCALE)), "ward-9"),
        (measured(task=Task("ward-3", 3, TASK.class_names, TASK.image_shape, SCALE)), "round 3"),
    ],
)
def test_a_faulty_measurement_is_refused(content, message):
    with pytest.raises(RecordError, match=message):
        Measurement.decode(content, TASK, count=2, limit=6)


# -- vectors over all data -------------------------------------------------------------------------

VECTORS = np.array([[1, 0, 0, 0], [0, 0, 0.6, 0.8]], np.float32)


def test_vectors_survive_the_wire():
    found = decode_vectors(wire(encode_vectors(TASK, VECTORS)), TASK, size=3)
    np.testing.assert_array_equal(found, VECTORS)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (VECTORS[:0], "0 vectors, must be 1 to 2"),
        (np.eye(4, dtype=np.float32)[:3], "3 vectors, must be 1 to 2"),
        (VECTORS[:, :3], r"'vectors' has shape \(2, 3\), must have \('any', 4\)"),
        (VECTORS[0], r"has shape \(4,\), must have \('any', 4\)"),
        (VECTORS.astype(np.float64), "is float64"),
        (2 * VECTORS, "not orthonormal"),
        (VECTORS[[0, 0]], "not orthonormal"),
        (np.full_like(VECTORS, NAN), "NaN"),
    ],
)
def test_faulty_vectors_are_refused(vectors, message):
    with pytest.raises(RecordError, match=message):
        decode_vectors(encode_vectors(TASK, vectors), TASK, size=2)


def test_vectors_that_pass_never_stop_the_server():
    """Short and skew as far as decoding lets them be, principal angles still take them."""
    product = 0.98 * ORTHONORMAL
    length = np.sqrt(1 - product)
    skew = np.array([[length, 0, 0, 0], [product / length, length, 0, 0]], np.float32)
    found = decode_vectors(encode_vectors(TASK, skew), TASK, size=2)
    bases = pack_bases([found, VECTORS], [np.zeros(2, np.int64)] * 2, 1)
    assert np.isfinite(class_angles(bases, np.ones((2, 1), np.int64), "principal")).all()


# -- evaluations -----------------------------------------------------------------------------------


def test_a_request_to_adapt_and_tune_survives_the_wire():
    found = EvaluateRequest.decode(wire(EvaluateRequest(TASK, PARTS, 1, 5).encode()))
    assert (found.adapt_epochs, found.tune_epochs) == (1, 5)


@pytest.mark.parametrize("key", ["adapt-epochs", "tune-epochs"])
@pytest.mark.parametrize(
    ("value", "message"), [(-1, "must not be negative"), (0.5, "type float"), (True, "type bool")]
)
def test_epochs_that_are_none_are_refused(key, value, message):
    content = EvaluateRequest(TASK, PARTS, 1, 5).encode()
    info(content)[key] = value
    with pytest.raises(RecordError, match=message):
        EvaluateRequest.decode(content)


def decode_evaluation(content, tuned):
    return EvaluateReply.decode(content, TASK, limit=4, tuned=tuned)


def test_a_tuned_evaluation_survives_the_wire():
    tuned = Evaluation(np.array([2, 2, 0]), np.array([2, 2, 0]), 0.5)
    content = wire(EvaluateReply(make_evaluation(), tuned).encode(TASK))
    found = decode_evaluation(content, tuned=True)
    assert found.evaluation.hits.tolist() == make_evaluation().hits.tolist()
    assert found.tuned.hits.tolist() == [2, 2, 0]


def test_an_evaluation_too_few_or_too_many_is_refused():
    one = EvaluateReply(make_evaluation()).encode(TASK)
    two = EvaluateReply(make_evaluation(), make_evaluation()).encode(TASK)
    headless = EvaluateReply(make_evaluation(), make_evaluation()).encode(TASK)
    del headless["judged-metrics"]
    for content, tuned in ((one, True), (two, False), (headless, True)):
        with pytest.raises(RecordError, match="another number of evaluations"):
            decode_evaluation(content, tuned)


def test_a_tuned_evaluation_is_checked_like_the_other():
    content = EvaluateReply(make_evaluation(), make_evaluation()).encode(TASK)
    content["tuned-metrics"] = MetricRecord({"loss-sum": NAN})
    with pytest.raises(RecordError, match="loss-sum = nan is no loss"):
        decode_evaluation(content, tuned=True)
