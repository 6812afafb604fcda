"""How large messages are, and how large the algorithm would need them to be."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict

from feddag_flwr.aggregation import Weights
from feddag_flwr.flower.private import recorddict_to_proto
from feddag_flwr.records.transport import wire_dtype

# Bytes of the header that NumPy writes before the values of a plain array.
NUMPY_HEADER = 128
_WEIGHTS = (".floats", ".buffers", ".integers")


def arrays_nbytes(content: RecordDict) -> int:
    """Bytes of all arrays in a message, as serialised."""
    return sum(
        len(array.data) for record in content.array_records.values() for array in record.values()
    )


def content_nbytes(content: RecordDict) -> int:
    """Bytes of a message as protobuf: arrays, names, values and their framing.

    To within a few bytes an array, for the arrays are not copied to find out. Flower's envelope of
    some 250 bytes, with ids of random length, is not in it.
    """
    arrays = [array for record in content.array_records.values() for array in record.values()]
    bare = {
        name: ArrayRecord({key: _emptied(array) for key, array in record.items()})
        if isinstance(record, ArrayRecord)
        else record
        for name, record in content.items()
    }
    try:
        frame = int(recorddict_to_proto(RecordDict(bare)).ByteSize())
    except Exception:  # names or values from elsewhere that protobuf does not take
        frame = 0
    return frame + sum(_field_nbytes(len(array.data)) for array in arrays)


def _emptied(array: Array) -> Array:
    return Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=b"")


def _field_nbytes(length: int) -> int:
    """Bytes that a field of this length adds: tag, length, and two longer lengths around it."""
    if not length:
        return 0
    prefix = (length.bit_length() + 6) // 7
    return 1 + prefix + length + 2 * (prefix - 1)


def weights_nbytes(parts: Iterable[Weights], transport: str) -> int:
    """Bytes of the values of weights in a number format, without headers."""
    itemsize = np.dtype(wire_dtype(transport)).itemsize
    return sum(
        itemsize * weights.floats.size + weights.buffers.nbytes + weights.integers.nbytes
        for weights in parts
    )


def statistics_nbytes(content: RecordDict) -> int:
    """Bytes of the values of all arrays that are not weights: counts, losses, vectors, .."""
    arrays = content.get("arrays")
    return sum(
        max(0, len(array.data) - NUMPY_HEADER)
        for key, array in (arrays.items() if isinstance(arrays, ArrayRecord) else ())
        if not key.endswith(_WEIGHTS)
    )
