"""Named arrays as the bytes of a safetensors file, and the names of such files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from feddag_flwr.checkpoints.errors import DamagedError

Arrays = Mapping[str, NDArray[Any]]

# Longest file name that is made of a group's name; file systems take 255 bytes.
MAX_STEM = 120
# Marks a name that safetensors would take for its own ("__metadata__"), or that bears the mark.
_MARK = "~"
# Key of the names in their order, among what safetensors calls metadata.
_ORDER = "names"
# Bytes in which a safetensors file says how long its header is.
_LENGTH = 8


def arrays_to_bytes(arrays: Arrays) -> bytes:
    """Write arrays of booleans, integers or floats, of any shape, under any names, in their order.

    Raises
    ------
    TypeError
        An array holds something else.
    """
    for name, values in arrays.items():
        if values.dtype.kind not in "biuf":
            raise TypeError(f"array {name!r} is {values.dtype}: no booleans, integers or floats")
    written: bytes = save(
        {_marked(name): np.asarray(values, order="C") for name, values in arrays.items()},
        {_ORDER: json.dumps(list(arrays))},  # safetensors has an order of its own
    )
    return written


def arrays_from_bytes(content: bytes) -> dict[str, NDArray[Any]]:
    """Read what `arrays_to_bytes` wrote.

    Raises
    ------
    DamagedError
        The bytes are no such file.
    """
    try:
        found = load(content)
        header = json.loads(
            content[_LENGTH : _LENGTH + int.from_bytes(content[:_LENGTH], "little")]
        )
        names = json.loads(header["__metadata__"][_ORDER])
        return {name: found[_marked(name)] for name in names}
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"is no safetensors file of a checkpoint: {error!r}") from error


def file_stem(name: str) -> str:
    """Return a file name, without ending, for a group of any name.

    The name itself where it is short and plain; else its start and a digest of it, so that two
    groups never share a file, on a file system without capitals either.
    """
    stem = quote(name, safe="")
    if stem == name.lower() and 0 < len(stem) <= MAX_STEM:
        return stem
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{stem[:MAX_STEM]}-{digest}"


def _marked(name: str) -> str:
    return _MARK + name if name.startswith(("__", _MARK)) else name
