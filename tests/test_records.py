import io
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, RecordDict
from judgements import evaluation, hits, loss_sum

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.messages import (
    DualTrainRequest,
    ProfileRequest,
    encode_profile,
)
from feddag_flwr.profile import Profile
from feddag_flwr.records import (
    Description,
    EvaluateReply,
    EvaluateRequest,
    Limits,
    RecordError,
    RequestHeader,
    TrainReply,
    TrainRequest,
    arrays_nbytes,
)
from feddag_flwr.records.header import NO_DRIFT, Drift, drift_of

SCALE = ((0.5, 0.25),)
HEADER = RequestHeader("ward-3", 4, ("cat", "dog", "eel"), (1, 2, 2), SCALE)
LIMIT = 1000


def weights(*floats, buffers=(), integers=()):
    return Weights(
        np.array(floats, np.float32), np.array(buffers, np.float32), np.array(integers, np.int64)
    )


def same(one, two):
    return all(
        np.array_equal(getattr(one, name), getattr(two, name))
        for name in ("floats", "buffers", "integers")
    )


def wire(content):
    """Send a record through Flower's own serialisation."""
    objects = {}

    def collect(item):
        for key, child in (item.children or {}).items():
            objects[key] = child
            collect(child)

    collect(content)

    def inflate(item):
        children = {key: inflate(child) for key, child in (item.children or {}).items()}
        return type(item).inflate(item.deflate(), children)

    return inflate(content)


def make_profile():
    return Profile(
        update=np.array([0.5, -1], np.float32),
        vectors=np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.6, 0.8]], np.float32),
        vector_classes=np.array([0, 0, 2], np.int64),
        counts=np.array([5, 0, 1], np.int64),
        encoder=weights(1, 2, 3, integers=[9]),
    )


def encoded_profile():
    return encode_profile(HEADER, make_profile(), weights(0, 0, 0, integers=[0]))


def decode(content, header=HEADER, encoder=None, subspace=2.0):
    start = encoder or weights(0, 0, 0, integers=[0])
    request = ProfileRequest(header, {"primary": start}, 1, 2 / start.floats.size)
    return request.read_reply(content, Limits(LIMIT, subspace_size=subspace))


def test_requests_survive_the_wire():
    parts = {"primary": weights(1, 2, buffers=[0.5], integers=[3]), "classifier": weights(4)}
    profile = ProfileRequest.decode(wire(ProfileRequest(HEADER, parts, 2**62, 0.5).encode()))
    train = DualTrainRequest.decode(
        wire(DualTrainRequest(HEADER, parts, ("primary", "secondary")).encode())
    )
    evaluate = EvaluateRequest.decode(wire(EvaluateRequest(HEADER, parts).encode()))
    assert profile.coordinate_seed == 2**62
    assert train.phases == ("primary", "secondary")
    for request, found in (
        (profile, profile.start),
        (train, train.parts),
        (evaluate, evaluate.parts),
    ):
        assert request.header == HEADER
        assert list(found) == list(parts)
        assert all(same(found[name], parts[name]) for name in parts)


def test_replies_survive_the_wire():
    description = Description("ward-3", ("cat",), (1, 2, 2), 6, 0, ((0.4, 0.2),))
    assert Description.decode(wire(description.encode()), LIMIT) == description
    found = decode(wire(encoded_profile()))
    for name in ("update", "vectors", "vector_classes", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(make_profile(), name))
    assert same(found.encoder, make_profile().encoder)
    grouped = replace(description, true_group=3)
    assert Description.decode(wire(grouped.encode()), LIMIT) == grouped
    content = wire(EvaluateReply(make_evaluation()).encode(HEADER))
    reply = EvaluateRequest(HEADER, {}).read_reply(content, Limits(4))
    assert reply.personalised is None
    assert hits(reply.evaluation) == [1, 2, 0]
    assert loss_sum(reply.evaluation) == 2.5


def make_evaluation():
    return evaluation([1, 2, 0], [2, 2, 0], 2.5)


def test_bytes_are_those_of_the_arrays():
    content = EvaluateRequest(HEADER, {"primary": weights(*range(1000))}).encode()
    assert 4000 <= arrays_nbytes(content) <= 4200


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("update", np.array([1, NAN], np.float32), r"'update' \(float32\) holds NaN or infinite"),
        ("update", np.array([1, INF], np.float32), r"'update' \(float32\) holds NaN or infinite"),
        ("update", np.array([1], np.float32), r"'update' has shape \(1,\), must have \(2,\)"),
        ("update", np.array([1, 2], np.float64), "'update' is float64, must be float32"),
        ("update", np.zeros((1, 2), np.float32), r"'update' has shape \(1, 2\), must have \(2,\)"),
        ("update", np.zeros(2, np.float32), "update is zero everywhere"),
        ("counts", np.array([7, 0, -1]), "counts: -1 is outside 0..1000"),
        ("counts", np.array([7, 0, 10**15]), "is outside 0..1000"),
        ("counts", np.array([5, 1]), r"'counts' has shape \(2,\), must have \(3,\)"),
        ("counts", np.array([600, 0, 600]), r"counts add up to 1200, must be 1\.\.1000"),
        (
            "vectors",
            np.eye(3, dtype=np.float32),
            r"shape \(3, 3\), must have \(3, 4\)",
        ),
        (
            "vectors",
            np.eye(2, 4, dtype=np.float32),
            r"shape \(2, 4\), must have \(3, 4\)",
        ),
        ("vectors", 5 * np.eye(3, 4, dtype=np.float32), "class 0 are not orthonormal"),
        ("vectors", np.eye(4, dtype=np.float32)[[0, 0, 1]], "class 0 are not orthonormal"),
        ("vectors", np.full((3, 4), NAN, np.float32), r"'vectors' \(float32\) holds NaN"),
        ("vector-classes", np.array([0, 0, 3]), r"must lie in 0..2"),
        ("vector-classes", np.array([0, 2, 2]), "2 vectors of class 2 with 1 samples"),
        ("vector-classes", np.array([0, 0, 0]), "3 vectors of class 0 with 5 samples"),
        ("vector-classes", np.array([0, 0, 1]), "1 vectors of class 1 with 0 samples"),
        ("vector-classes", np.array([0, 2, 0]), "ascending order"),
        (
            "encoder.floats",
            np.zeros(2, np.float32),
            r"floats' has shape \(2,\), must have \(3,\)",
        ),
        ("encoder.floats", np.full(3, NAN, np.float32), r"'encoder.floats' \(float32\) holds NaN"),
        (
            "encoder.integers",
            np.zeros(2, np.int64),
            r"integers' has shape \(2,\), must have \(1,\)",
        ),
    ],
)
def test_a_faulty_profile_is_refused_with_the_reason(key, values, message):
    content = encoded_profile()
    content.array_records["arrays"][key] = Array(values)
    with pytest.raises(RecordError, match=message):
        decode(content)


def test_no_more_vectors_of_a_class_than_a_sample_has_values():
    """A share of a great count would let a client send as many as it claims to have samples."""
    rows = 4000
    vectors, classes = np.zeros((rows, 4), np.float32), np.zeros(rows, np.int64)
    profile = replace(
        make_profile(), vectors=vectors, vector_classes=classes, counts=np.array([LIMIT, 0, 0])
    )
    content = encode_profile(HEADER, profile, weights(0, 0, 0, integers=[0]))
    with pytest.raises(RecordError, match=r"'vector-classes' has .* at most 4 values"):
        decode(content, subspace=1 - 1e-9)


@pytest.mark.parametrize("key", ["update", "counts", "vectors", "vector-classes", "encoder.floats"])
def test_a_missing_array_is_named(key):
    content = encoded_profile()
    del content.array_records["arrays"][key]
    with pytest.raises(RecordError, match=f"no array '{key}'"):
        decode(content)


def test_objects_are_never_unpickled():
    content = encoded_profile()
    pickled = np.lib.format.magic(1, 0) + b"\x00" * 200
    content.array_records["arrays"]["update"] = Array(
        dtype="float32", shape=(2,), stype="numpy.ndarray", data=pickled
    )
    with pytest.raises(RecordError, match="'update' cannot be read"):
        decode(content)


def test_an_archive_in_place_of_an_array_is_refused():
    archive = io.BytesIO()
    np.savez(archive, x=np.zeros(2, np.float32))
    content = encoded_profile()
    content.array_records["arrays"]["update"] = Array(
        dtype="float32", shape=(2,), stype="numpy.ndarray", data=archive.getvalue()
    )
    with pytest.raises(RecordError, match="'update' cannot be read: the magic"):
        decode(content)


def test_a_reply_in_another_name_or_of_another_round_is_refused():
    content = encoded_profile()
    other = RequestHeader("ward-4", 4, HEADER.class_names, HEADER.sample_shape, SCALE)
    with pytest.raises(RecordError, match="signed 'ward-3', but this node is 'ward-4'"):
        decode(content, header=other)
    later = RequestHeader("ward-3", 5, HEADER.class_names, HEADER.sample_shape, SCALE)
    with pytest.raises(RecordError, match="is of round 4, not 5"):
        decode(content, header=later)


REQUEST = TrainRequest(HEADER, {"primary": weights(0, 0), "classifier": weights(0)})


def train_reply(parts=None, samples=6, evaluation=None):
    parts = parts or {"primary": weights(1, 2), "classifier": weights(3)}
    reply = TrainReply(samples, parts, REQUEST.parts, evaluation or make_evaluation())
    return reply.encode(HEADER)


def decode_train(content):
    return REQUEST.read_reply(content, Limits(6))


def test_a_good_train_reply():
    reply = decode_train(wire(train_reply()))
    assert reply.samples == 6
    assert reply.parts["primary"].floats.tolist() == [1, 2]
    assert reply.received.value("balanced-accuracy") == 0.75


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (train_reply(samples=10**9), "samples = 1000000000 is outside 1..6"),
        (train_reply(samples=-6), "samples = -6"),
        (train_reply({"primary": weights(1, 2)}), r"holds parts \['primary'\], must hold"),
        (train_reply({"primary": weights(1, NAN), "classifier": weights(3)}), "NaN"),
        (
            train_reply({"primary": weights(1, 2, 3), "classifier": weights(3)}),
            r"'primary.floats' has shape \(3,\), must have \(2,\)",
        ),
        (RecordDict(), "no record 'info'"),
    ],
)
def test_a_faulty_train_reply_is_refused(content, message):
    with pytest.raises(RecordError, match=message):
        decode_train(content)


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (evaluation([3, 0, 0], [2, 2, 0], 1.0), "more hits than samples"),
        (
            evaluation([0, 0], [2, 2], 1.0),
            r"shape \(2,\), must have \(3,\)",
        ),
        (
            evaluation([-1, 0, 0], [2, 0, 0], 1.0),
            "hits: -1 is negative",
        ),
        (
            evaluation([0, 0, 0], [2000, 0, 0], 1.0),
            "received.totals: 2000 is outside 0..6",
        ),
        (
            evaluation([0, 0, 0], [5, 2, 0], 1.0),
            "totals add up to 7, more than 6",
        ),
        (evaluation([0, 0, 0], [2, 2, 0], NAN), "loss.sum = nan must be a finite float"),
        (evaluation([0, 0, 0], [2, 2, 0], -1.0), "sum = -1.0 is no loss"),
        (evaluation([0, 0, 0], [2, 2, 0], 1e300), "sum = 1e[+]300 is no"),
    ],
)
def test_a_faulty_evaluation_is_refused(received, message):
    with pytest.raises(RecordError, match=message):
        decode_train(train_reply(evaluation=received))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client": ""}, "is no name"),
        ({"client": "a\nb"}, "is no name"),
        ({"class-names": [str(i) for i in range(1001)]}, "1 to 1000 names, got 1001"),
        ({"class-names": ["a", "a"]}, "names something twice"),
        ({"sample-shape": [1, 8]}, "sample-shape must be three positive"),
        ({"sample-shape": [1, 8, 0]}, "sample-shape must be positive"),
        ({"train-samples": 0}, "train-samples = 0 is outside 1..1000"),
        ({"train-samples": 10**12}, "is outside 1..1000"),
        ({"test-samples": -1}, "test-samples = -1 is outside 0..1000"),
        ({"train-samples": 1.5}, "is of type float"),
        ({"moments": [NAN, 0.2]}, "moments must be finite numbers"),
        ({"moments": [0.4, 0.2] * 2}, "2 numbers for each of 1 channels"),
        ({"moments": [0.4, 0.2, 0.2]}, "3 numbers make no rows of 2"),
        ({"moments": [1e200, 0.2]}, r"are of no pixels in \[0, 1\]"),
        ({"moments": [0.4, 0.1]}, r"are of no pixels in \[0, 1\]"),
        ({"moments": [0.4, 0.5]}, r"are of no pixels in \[0, 1\]"),
    ],
)
def test_a_faulty_description_is_refused(changes, message):
    content = Description("ward-3", ("cat",), (1, 2, 2), 6, 0, ((0.4, 0.2),)).encode()
    for key, value in changes.items():
        content.config_records["info"][key] = value
    with pytest.raises(RecordError, match=message):
        Description.decode(content, LIMIT)


def test_unknown_phases_are_refused():
    content = DualTrainRequest(HEADER, {"primary": weights(1)}, ("tertiary",)).encode()
    with pytest.raises(RecordError, match=r"phases = .* must be among"):
        DualTrainRequest.decode(content)


def test_class_names_are_read_in_one_unicode_form():
    def described(*names):
        description = Description("ward", names, (1, 8, 8), 5, 2, ((0.5, 0.3),))
        return Description.decode(description.encode(), 100).class_names

    assert described("bag", "cafe\u0301") == ("bag", "caf\u00e9")
    header = RequestHeader("ward", 1, ("bag", "cafe\u0301"), (1, 8, 8), ((0.5, 0.3),))
    assert RequestHeader.decode(header.encode()).class_names == ("bag", "caf\u00e9")
    with pytest.raises(RecordError, match="class-names names something twice"):
        described("caf\u00e9", "cafe\u0301")


def test_a_client_without_labels_names_no_classes():
    described = Description("ward-9", (), (1, 8, 8), 5, 0, ((0.5, 0.3),))
    read = Description.decode(described.encode(), 100)
    assert read == described
    assert not read.labelled


def test_how_classes_looked_travels_only_where_it_is_asked_for():
    assert "reference-looks" not in HEADER.info()
    assert set(NO_DRIFT.values(HEADER)) == {"drifted"}
    asking = replace(HEADER, looks=(0.5, -1.0))
    assert RequestHeader.decode(asking.encode()) == asking
    for classes, looks in ((False, True), (True, False)):
        said = Drift(classes, looks).values(replace(asking, reference=(1,) * 3))
        # Without a reference for classes nobody believes that they have drifted.
        assert drift_of(said, asking) == Drift(False, looks)
        assert bool(drift_of(said, asking)) == looks
        assert not drift_of(said, HEADER)


@pytest.mark.parametrize("looks", [[NAN], [1], ["x"]])
def test_faulty_looks_are_refused(looks):
    content = replace(HEADER, looks=(0.5,)).encode()
    content.config_records["info"]["reference-looks"] = looks
    with pytest.raises(RecordError, match="reference-looks must be finite numbers"):
        RequestHeader.decode(content)
