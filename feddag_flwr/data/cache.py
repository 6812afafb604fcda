"""Arrays that are costly to make, kept within a bound on memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


class ArrayCache:
    """The arrays used last, of which no more than `max_bytes` are kept.

    The one used longest ago goes first; an array larger than the bound is not kept at all.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._arrays: OrderedDict[Hashable, Array] = OrderedDict()

    def recall(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return the array kept under `key`, or `make` it; read-only by agreement."""
        array = self._arrays.pop(key, None)
        if array is None:
            array = make()
            if array.nbytes > self._max_bytes:
                return array
            self._bytes += array.nbytes
        self._arrays[key] = array
        while self._bytes > self._max_bytes:
            _, oldest = self._arrays.popitem(last=False)
            self._bytes -= oldest.nbytes
        return array
