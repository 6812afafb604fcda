"""Arrays of a message, read and checked: no more is made of them than was to be expected."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.lib import format as npy
from numpy.typing import NDArray

from feddag_flwr.records.values import RecordError

# Bytes that NumPy's header of a plain array may take; it usually takes 128.
MAX_HEADER = 256
_SERIALISED = "numpy.ndarray"
# How far products of vectors may be from those of an orthonormal basis, rounded to float32 (some
# 1e-6): half of what principal angles refuse, so that no client's vectors can stop the server.
ORTHONORMAL = 5e-4


def array_of(
    content: RecordDict,
    key: str,
    dtype: type,
    shape: Sequence[int | None],
    *,
    most: int | None = None,
) -> NDArray[Any]:
    """Return one array of the right type and shape, free of NaN; else a `RecordError` says why.

    The length of what came is looked at first, then NumPy's header, and only then is an array made;
    pickled objects and archives are never opened. A shape with a None, any length along that axis,
    may have `most` values, by default as many as came.
    """
    record = content.get("arrays")
    if not isinstance(record, ArrayRecord) or key not in record:
        raise RecordError(f"no array {key!r}")
    fixed = [length for length in shape if length is not None]
    if len(fixed) == len(shape):
        most = math.prod(fixed)
    array, wanted = record[key], np.dtype(dtype)
    if most is not None and len(array.data) > MAX_HEADER + most * wanted.itemsize:
        raise RecordError(
            f"array {key!r} has {len(array.data)} bytes, at most {most} values of {wanted} "
            "are to be expected"
        )
    values = _read(array, key, wanted, shape)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RecordError(f"array {key!r} ({wanted}) holds NaN or infinite values")
    return values


def _read(
    array: Array, key: str, dtype: np.dtype[Any], wanted: Sequence[int | None]
) -> NDArray[Any]:
    """Read NumPy's file format: version 1, plain values of one type, not a byte too many."""
    if array.stype != _SERIALISED:
        raise RecordError(f"array {key!r} is not in NumPy's format")
    stream = io.BytesIO(array.data[:MAX_HEADER])
    try:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError("not of version 1.0")
        shape, fortran, kind = npy.read_array_header_1_0(stream, max_header_size=MAX_HEADER)
    except Exception as error:  # whatever NumPy says of bytes from elsewhere
        raise RecordError(f"array {key!r} cannot be read: {str(error)[:200]}") from error
    if kind != dtype:
        raise RecordError(f"array {key!r} is {kind}, must be {dtype}")
    if not _fits(shape, wanted):
        must = tuple("any" if length is None else length for length in wanted)
        raise RecordError(f"array {key!r} has shape {shape}, must have {must}")
    body = memoryview(array.data)[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise RecordError(f"array {key!r} has {len(body)} bytes of values for shape {shape}")
    flat = np.frombuffer(body, dtype)
    # A copy of its own: aligned, open to changes, and the message can go.
    return np.array(flat.reshape(shape, order="F" if fortran else "C"), order="K")


def _fits(shape: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        type(side) is int and (side >= 0 if length is None else side == length)
        for side, length in zip(shape, wanted, strict=True)
    )


def counts_of(content: RecordDict, key: str, size: int, limit: int) -> NDArray[np.int64]:
    """Return a vector of so many counts, each in 0..limit."""
    counts = array_of(content, key, np.int64, (size,))
    if counts.size and (counts.min() < 0 or counts.max() > limit):
        wrong = int(counts.min() if counts.min() < 0 else counts.max())
        raise RecordError(f"{key}: {wrong} is outside 0..{limit}")
    return counts


def number_of(content: RecordDict, key: str, shape: Sequence[int | None]) -> NDArray[np.float64]:
    """Return an array of float64 numbers of the shape that it must have."""
    return array_of(content, f"number.{key}", np.float64, shape)


def check_orthonormal(rows: NDArray[np.floating], what: str) -> None:
    """Refuse rows that are not orthonormal; the error names `what`."""
    exact = rows.astype(np.float64)
    if np.abs(exact @ exact.T - np.eye(len(exact))).max() > ORTHONORMAL:
        raise RecordError(f"{what} are not orthonormal")
