"""Arrays from elsewhere: nothing is made of them before their size is known to be right."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from feddag_flwr.records import RecordError
from feddag_flwr.records.arrays import MAX_HEADER, array_of


def content(array):
    return RecordDict({"arrays": ArrayRecord({"x": array})})


def raw(data, stype="numpy.ndarray"):
    return content(Array(dtype="float32", shape=(2,), stype=stype, data=data))


def with_header(shape, body=b"", descr="<f4", fortran=False):
    """Make NumPy's file format with a header that says anything."""
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + body


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.uint16, np.int64])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (0, 4), (3, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_wrote_is_read_as_it_was(dtype, shape, order):
    sent = np.asarray(np.arange(np.prod(shape, dtype=int)).reshape(shape), dtype, order=order)
    found = array_of(content(Array(sent)), "x", dtype, shape)
    assert found.dtype == dtype
    assert found.flags["F_CONTIGUOUS"] == sent.flags["F_CONTIGUOUS"]
    np.testing.assert_array_equal(found, sent)
    found[...] = 1  # it is a copy of its own


def test_lengths_may_be_free_up_to_a_number_of_values():
    sent = content(Array(np.ones((3, 4), np.float32)))
    assert array_of(sent, "x", np.float32, (None, 4)).shape == (3, 4)
    assert array_of(sent, "x", np.float32, (None, 4), most=12).shape == (3, 4)
    with pytest.raises(RecordError, match=r"has shape \(3, 4\), must have \('any', 3\)"):
        array_of(sent, "x", np.float32, (None, 3))
    with pytest.raises(RecordError, match="at most 4 values of float32 are to be expected"):
        array_of(content(Array(np.ones((100, 4), np.float32))), "x", np.float32, (None, 4), most=4)


PICKLE = pickle.dumps({"a": print})


def archive():
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(2, np.float32))
    return stream.getvalue()


def old_pickled_array():
    stream = io.BytesIO()
    np.save(stream, np.array([{}, {}], object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"\x00" * 136, "cannot be read: the magic string is not correct"),
        (PICKLE, "cannot be read"),
        (archive(), "cannot be read"),
        (old_pickled_array(), "are to be expected"),
        (with_header((2,), PICKLE[:8], descr="|O"), "is object, must be float32"),
        (np.lib.format.magic(2, 0) + b"\x00" * 99, "cannot be read: not of version 1.0"),
        (np.lib.format.magic(1, 0) + b"\xff\xff" + b"(" * 120, "cannot be read"),
        (np.lib.format.magic(1, 0) + b"\x76\x00" + b"(" * 118, "cannot be read"),
        (with_header((2,)), r"has 0 bytes of values for shape \(2,\)"),
        (with_header((2,), b"\x00" * 7), "has 7 bytes of values"),
        (with_header((2,), b"\x00" * 9), "has 9 bytes of values"),
        (with_header((10**15,), b"\x00" * 8), "has shape"),
        (with_header((2**63, 2**63), b"\x00" * 8), "has shape"),
        (with_header((-2,), b"\x00" * 8), "has shape"),
        (with_header((1,) * 66, b"\x00" * 4), "are to be expected"),
        (with_header((1,) * 40, b"\x00" * 4), "has shape"),
        (with_header((2,), b"\x00" * 8, descr=">f4"), "is >f4, must be float32"),
        (with_header((2,), b"\x00" * 8, descr="|V4"), "must be float32"),
        (with_header((2,), b"\x00" * 8, descr=[("a", "<f4")]), "must be float32"),
        (with_header((2.0,), b"\x00" * 8), "cannot be read"),
    ],
)
def test_other_bytes_are_refused(data, message):
    with pytest.raises(RecordError, match=message):
        array_of(raw(data), "x", np.float32, (2,))


@pytest.mark.parametrize("shape", [(True,), (10**15,), (-1,), (-4,), (2**70,)])
def test_a_free_length_is_what_the_bytes_have(shape):
    with pytest.raises(RecordError, match=r"has shape|bytes of values"):
        array_of(raw(with_header(shape, b"\x00" * 16)), "x", np.float32, (None,))


def test_another_serialisation_is_refused():
    with pytest.raises(RecordError, match="is not in NumPy's format"):
        array_of(raw(with_header((2,), b"\x00" * 8), stype="pickle"), "x", np.float32, (2,))


def test_what_an_array_says_of_itself_outside_its_bytes_is_not_believed():
    data = with_header((2,), b"\x00" * 8)
    boast = Array(dtype="complex128", shape=(10**9, 10**9), stype="numpy.ndarray", data=data)
    assert array_of(content(boast), "x", np.float32, (2,)).tolist() == [0, 0]


@pytest.mark.parametrize(
    "data",
    [
        with_header((10**7,), b"\x00" * 4 * 10**7),  # 40 MB of values
        b"\x93NUMPY\x01\x00" + b"\x00" * 4 * 10**7,
        with_header((10**11,)),  # 400 GB said in 128 bytes
    ],
)
def test_an_oversized_array_costs_no_more_memory_than_it_came_in(data):
    sent = raw(data)
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            array_of(sent, "x", np.float32, (1000,))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@given(st.binary(max_size=400))
def test_any_bytes_are_an_array_or_a_record_error(data):
    for sent in (data, np.lib.format.magic(1, 0) + data, with_header((3,), data)):
        try:
            found = array_of(raw(sent), "x", np.float32, (3,))
        except RecordError as error:
            assert len(str(error)) < 400
        else:
            assert found.shape == (3,)
            assert np.isfinite(found).all()


def test_numpys_own_header_is_well_below_the_limit():
    header = len(with_header((10**9, 10**9, 10**9), descr="<f4"))
    assert header <= MAX_HEADER
