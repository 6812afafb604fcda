"""Recipes, candidate models, measurements, vectors and evaluations with tuning, on the wire."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, MetricRecord
from judgements import evaluation, hits
from test_records import HEADER, INF, NAN, SCALE, make_evaluation, same, weights, wire

from feddag_flwr.algorithms.cfl_gp.messages import GradientRequest
from feddag_flwr.algorithms.feddag.messages import DualTrainRequest, ProfileRequest
from feddag_flwr.algorithms.fedrc.messages import ResponsibilitiesRequest
from feddag_flwr.algorithms.ifca.messages import ChoiceReply, ChoiceTrainRequest
from feddag_flwr.algorithms.pacfl.messages import VectorsRequest
from feddag_flwr.algorithms.per_fedavg.messages import FomamlTrainRequest
from feddag_flwr.records import (
    CandidateLosses,
    CandidateLossesRequest,
    EvaluateReply,
    EvaluateRequest,
    Limits,
    LocalTrainingConfig,
    RecordError,
    RequestHeader,
    TrainRequest,
)
from feddag_flwr.records.arrays import ORTHONORMAL
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.similarity.subspace import class_angles

PARTS = {"primary": weights(1, 2), "classifier": weights(3)}
OTHER = {"primary": weights(5, 6), "classifier": weights(7)}
CHOOSE = ChoiceTrainRequest(HEADER, (PARTS, OTHER))
LOSSES = LocalTrainingConfig(epochs=2, report_losses=True)


def arrays(content):
    return content.array_records["arrays"]


def info(content):
    return content.config_records["info"]


# -- how to train ----------------------------------------------------------------------------------


def test_a_recipe_survives_the_wire():
    config = LocalTrainingConfig(
        3, 17, "hinge", "adam", 0.25, 0.5, 0.125, proximal=0.01, report_losses=True
    )
    found = TrainRequest.decode(wire(TrainRequest(HEADER, PARTS, config).encode()))
    assert found.config == config
    plain = TrainRequest.decode(wire(TrainRequest(HEADER, PARTS).encode()))
    assert plain.config == LocalTrainingConfig()
    fomaml = FomamlTrainRequest(HEADER, PARTS, config, inner_rate=0.75)
    assert FomamlTrainRequest.decode(wire(fomaml.encode())).inner_rate == 0.75


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training-proximal", -0.5, "training-proximal = -0.5 must be 0 or more"),
        ("training-proximal", NAN, "training-proximal = nan must be 0 or more"),
        ("training-learning-rate", INF, "training-learning-rate = inf must be 0 or more, and fin"),
        ("training-momentum", "fast", "training-momentum = 'fast' is of type str"),
        ("training-epochs", 0, "training-epochs = 0 must be 1 or more"),
        ("training-batch-size", -1, "training-batch-size = -1 must be 0 or more"),
        ("training-objective", "", "training-objective = '' is no name"),
        ("training-report-losses", 1, "training-report-losses = 1 is of type int"),
    ],
)
def test_a_faulty_recipe_is_refused(key, value, message):
    content = TrainRequest(HEADER, PARTS, LocalTrainingConfig(proximal=1.0)).encode()
    info(content)[key] = value
    with pytest.raises(RecordError, match=message):
        TrainRequest.decode(content)


def test_a_recipe_lacking_a_value_is_refused():
    content = TrainRequest(HEADER, PARTS).encode()
    del info(content)["training-optimiser"]
    with pytest.raises(RecordError, match="no 'training-optimiser'"):
        TrainRequest.decode(content)


# -- what the fields of a request declare ----------------------------------------------------------

PROFILE = ProfileRequest(HEADER, PARTS, 7, 0.5)
DUAL = DualTrainRequest(HEADER, PARTS, ("primary",))


@pytest.mark.parametrize(
    ("request_", "key", "value", "message"),
    [
        (PROFILE, "gradient-fraction", 0.0, "gradient-fraction = 0.0 must be above 0, 1 at most"),
        (PROFILE, "gradient-fraction", 1.5, "gradient-fraction = 1.5 must be above 0, 1 at most"),
        (PROFILE, "warmup-rounds", 0, "warmup-rounds = 0 must be 1 or more"),
        (PROFILE, "coordinate-seed", -1, "coordinate-seed = -1 must be 0 or more"),
        (DUAL, "diversity", NAN, "diversity = nan must be 0 or more, and finite"),
        (DUAL, "separate-heads", 1, "separate-heads = 1 is of type int"),
        (DUAL, "phases", [], "phases must be a list of 1 to 1000 names"),
        (FomamlTrainRequest(HEADER, PARTS), "inner-rate", -0.5, "inner-rate = -0.5 must be 0 or"),
        (GradientRequest(HEADER, PARTS), "objective", "", "objective = '' is no name"),
    ],
)
def test_a_value_out_of_bounds_is_refused(request_, key, value, message):
    content = request_.encode()
    info(content)[key] = value
    with pytest.raises(RecordError, match=message):
        type(request_).decode(content)


def test_a_table_has_a_row_a_candidate_and_a_column_a_class():
    request = ResponsibilitiesRequest(HEADER, (PARTS, OTHER), np.arange(6.0).reshape(2, 3))
    found = ResponsibilitiesRequest.decode(wire(request.encode()))
    assert found.prior.tolist() == [[0, 1, 2], [3, 4, 5]]
    content = request.encode()
    arrays(content)["number.prior"] = Array(np.zeros((3, 3)))
    with pytest.raises(RecordError, match=r"prior has shape \(3, 3\), must have \(2, 3\)"):
        ResponsibilitiesRequest.decode(content)


# -- candidate models ------------------------------------------------------------------------------


def test_candidates_survive_the_wire():
    found = ChoiceTrainRequest.decode(wire(CHOOSE.encode()))
    assert len(found.candidates) == 2
    for got, sent in zip(found.candidates, (PARTS, OTHER), strict=True):
        assert list(got) == list(sent)
        assert all(same(got[part], sent[part]) for part in sent)
    assert same(found.starts(1)["primary"], OTHER["primary"])


@pytest.mark.parametrize(
    "parts", [["1/primary"], ["1/primary", "0/primary"], ["0/primary", "2/primary"], ["x/primary"]]
)
def test_candidates_out_of_order_are_refused(parts):
    content = TrainRequest(HEADER, {name: weights(1) for name in parts}).encode()
    with pytest.raises(RecordError, match="candidate models are numbered"):
        ChoiceTrainRequest.decode(content)


def reply_to_candidates(choice, losses=None):
    reply = ChoiceReply(6, OTHER, OTHER, make_evaluation(), losses, choice=choice or 0)
    content = reply.encode(HEADER)
    if choice is None:
        del info(content)["choice"]
    else:
        info(content)["choice"] = choice
    return content


def decode_choice(content, config=CHOOSE.config):
    return replace(CHOOSE, config=config).read_reply(content, Limits(6))


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


def test_numbers_survive_the_wire():
    content = wire(reply_to_candidates(0, np.array([0.5, 0.25])))
    assert decode_choice(content, LOSSES).losses.tolist() == [0.5, 0.25]
    assert decode_choice(content).losses is None  # nobody asked


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
    with pytest.raises(RecordError, match=message):
        decode_choice(reply_to_candidates(0, values), LOSSES)


# -- measurements ----------------------------------------------------------------------------------


MEASURE = CandidateLossesRequest(HEADER, (PARTS, OTHER))


def test_a_measurement_survives_the_wire():
    request = CandidateLossesRequest.decode(wire(MEASURE.encode()))
    assert request.header == HEADER
    assert all(same(request.candidates[1][part], OTHER[part]) for part in OTHER)
    sent = CandidateLosses(np.array([0.5, 0.25]), np.array([2, 4]))
    found = MEASURE.read_reply(wire(sent.encode(HEADER)), Limits(6))
    assert found.losses.tolist() == [0.5, 0.25]
    assert found.lowest.tolist() == [2, 4]


def test_a_request_to_measure_nothing_is_refused():
    content = CandidateLossesRequest(HEADER, (PARTS,)).encode()
    info(content)["parts"] = ["primary"]
    arrays(content)["primary.floats"] = Array(np.ones(1, np.float32))
    with pytest.raises(RecordError, match="holds no candidate models"):
        CandidateLossesRequest.decode(content)


def measured(losses=(0.5, 0.25), lowest=(2, 4), header=HEADER):
    return CandidateLosses(np.array(losses, float), np.array(lowest, np.int64)).encode(header)


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
        (measured(lowest=(0, 0)), r"lowest add up to 0, must be 1\.\.6"),
        (measured(lowest=(6,)), r"'lowest' has shape \(1,\), must have \(2,\)"),
        (measured(lowest=(-1, 7)), "lowest: -1 is outside 0..6"),
        (without(measured(), "lowest"), "no array 'lowest'"),
        (without(measured(), "number.losses"), "no array 'number.losses'"),
        (
            measured(
                header=RequestHeader("ward-9", 4, HEADER.class_names, HEADER.sample_shape, SCALE)
            ),
            "ward-9",
        ),
        (
            measured(
                header=RequestHeader("ward-3", 3, HEADER.class_names, HEADER.sample_shape, SCALE)
            ),
            "round 3",
        ),
    ],
)
def test_a_faulty_measurement_is_refused(content, message):
    with pytest.raises(RecordError, match=message):
        MEASURE.read_reply(content, Limits(6))


# -- vectors over all data -------------------------------------------------------------------------


def encode_vectors(header, vectors):
    return header.reply(arrays={"vectors": vectors})


VECTORS = np.array([[1, 0, 0, 0], [0, 0, 0.6, 0.8]], np.float32)


def test_vectors_survive_the_wire():
    found = VectorsRequest(HEADER, 3).read_reply(wire(encode_vectors(HEADER, VECTORS)), Limits(9))
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
        VectorsRequest(HEADER, 2).read_reply(encode_vectors(HEADER, vectors), Limits(9))


def test_vectors_that_pass_never_stop_the_server():
    """Short and skew as far as decoding lets them be, principal angles still take them."""
    product = 0.98 * ORTHONORMAL
    length = np.sqrt(1 - product)
    skew = np.array([[length, 0, 0, 0], [product / length, length, 0, 0]], np.float32)
    found = VectorsRequest(HEADER, 2).read_reply(encode_vectors(HEADER, skew), Limits(9))
    bases = pack_bases([found, VECTORS], [np.zeros(2, np.int64)] * 2, 1)
    assert np.isfinite(class_angles(bases, np.ones((2, 1), np.int64), "principal")).all()


# -- evaluations -----------------------------------------------------------------------------------


def test_a_request_to_adapt_and_tune_survives_the_wire():
    found = EvaluateRequest.decode(wire(EvaluateRequest(HEADER, PARTS, 1, 5).encode()))
    assert (found.adapt_epochs, found.personalisation_epochs) == (1, 5)


@pytest.mark.parametrize("key", ["adapt-epochs", "personalisation-epochs"])
@pytest.mark.parametrize(
    ("value", "message"), [(-1, "must be 0 or more"), (0.5, "type float"), (True, "type bool")]
)
def test_epochs_that_are_none_are_refused(key, value, message):
    content = EvaluateRequest(HEADER, PARTS, 1, 5).encode()
    info(content)[key] = value
    with pytest.raises(RecordError, match=message):
        EvaluateRequest.decode(content)


def decode_evaluation(content, personalised):
    return EvaluateRequest(HEADER, PARTS, 0, int(personalised)).read_reply(content, Limits(4))


def test_a_personalised_evaluation_survives_the_wire():
    personalised = evaluation([2, 2, 0], [2, 2, 0], 0.5)
    content = wire(EvaluateReply(make_evaluation(), personalised).encode(HEADER))
    found = decode_evaluation(content, personalised=True)
    assert hits(found.evaluation) == hits(make_evaluation())
    assert hits(found.personalised) == [2, 2, 0]


def test_an_evaluation_too_few_or_too_many_is_refused():
    one = EvaluateReply(make_evaluation()).encode(HEADER)
    two = EvaluateReply(make_evaluation(), make_evaluation()).encode(HEADER)
    headless = EvaluateReply(make_evaluation(), make_evaluation()).encode(HEADER)
    del headless["judged-metrics"]
    for content, personalised in ((one, True), (two, False), (headless, True)):
        with pytest.raises(RecordError, match="another number of evaluations"):
            decode_evaluation(content, personalised)


def test_a_personalised_evaluation_is_checked_like_the_other():
    content = EvaluateReply(make_evaluation(), make_evaluation()).encode(HEADER)
    content["personalised-metrics"] = MetricRecord({"accuracy.hits": 3, "loss.sum": NAN})
    with pytest.raises(RecordError, match=r"loss\.sum = nan must be a finite float"):
        decode_evaluation(content, personalised=True)
