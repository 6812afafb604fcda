"""How large messages are, and how large the algorithm would need them to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_to_proto

from feddag_flwr.records.train import config_key

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


def least_down(content: RecordDict) -> int:
    """Bytes of the values that a request has to carry: every model part once, without headers.

    S' counts where the secondary phase is asked for and it is not S itself.
    """
    arrays, sizes = _arrays(content), _part_sizes(content)
    shared, own = arrays.get("transfer.floats"), arrays.get("secondary.floats")
    due = "secondary" in _phases(content)
    if shared is not None and (not due or (own is not None and shared.data == own.data)):
        sizes.pop("transfer", None)
    return sum(sizes.values()) + statistics_nbytes(content)


def least_weights_up(request: RecordDict, kind: str) -> int:
    """Bytes of the weights that the reply to a request of a kind (train, profile, ..) must carry.

    So it is the request that says what has to come back, not what did.
    """
    sizes = _part_sizes(request)
    wanted = set()
    if kind == "profile":
        wanted = {"primary"}
    elif kind == "gradient":
        wanted = set(sizes)
    elif kind == "train":
        separate_heads = bool(_info(request).get(config_key("halves")))
        wanted = _trained(_phases(request), sizes, separate_heads=separate_heads)
    return sum(sizes[part] for part in wanted)


def _trained(
    phases: tuple[str, ...], sizes: Mapping[str, int], *, separate_heads: bool
) -> set[str]:
    if "mixture" in phases:
        return set(sizes)
    start = "0/" if "0/primary" in sizes else ""  # all candidates are of one size
    wanted = set()
    if {"primary", "fomaml"} & set(phases):
        wanted = {f"{start}primary", f"{start}classifier"}
    if "secondary" in phases:
        wanted.add("transfer" if "transfer" in sizes else "secondary")
        wanted |= {"classifier"} if separate_heads else set()
    return wanted & sizes.keys()


def _phases(content: RecordDict) -> tuple[str, ...]:
    return tuple(_info(content).get("phases", ()))


def _info(content: RecordDict) -> Mapping[str, Any]:
    info = content.get("info")
    return cast(Mapping[str, Any], info) if isinstance(info, ConfigRecord) else {}


def _arrays(content: RecordDict) -> Mapping[str, Array]:
    arrays = content.get("arrays")
    return cast(Mapping[str, Array], arrays) if isinstance(arrays, ArrayRecord) else {}


def _part_sizes(content: RecordDict) -> dict[str, int]:
    """Bytes of the values of each part of an own request."""
    arrays = _arrays(content)
    return {
        part: sum(_values_nbytes(arrays[part + key]) for key in _WEIGHTS if part + key in arrays)
        for part in _info(content).get("parts", ())
    }


def statistics_nbytes(content: RecordDict) -> int:
    """Bytes of the values of all arrays that are not weights: counts, losses, vectors, .."""
    return sum(
        _values_nbytes(array)
        for key, array in _arrays(content).items()
        if not key.endswith(_WEIGHTS)
    )


def _values_nbytes(array: Array) -> int:
    return max(0, len(array.data) - NUMPY_HEADER)
