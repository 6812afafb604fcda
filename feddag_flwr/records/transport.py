"""Number formats in which weights travel (setting ``transport``).

In ``float32`` weights travel as they are, both ways. In the formats of two bytes a request carries
rounded weights, and a reply the difference between the weights as trained and as received; the
server adds it to its own weights, which never were rounded. So rounding costs an update some of its
digits, but no update is too small to count, round after round.

The numbers of a part travel with a common power of two, so that the largest of them lies near the
top of float16's range: nothing overflows, and small differences keep their digits.

Buffers and integers always travel as they are: running variances must not become negative by a
difference, counters must stay exact, and both are few.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights

EXACT = "float32"
# What numbers are, as what they travel (NumPy's file format does not know bfloat16), and how many
# significant bits they have.
_FORMATS: dict[str, tuple[type, type, int]] = {
    EXACT: (np.float32, np.float32, 24),
    "float16": (np.float16, np.float16, 11),
    "bfloat16": (ml_dtypes.bfloat16, np.uint16, 8),
}
TRANSPORTS = tuple(_FORMATS)

# The largest number of a part lies in [2^(TOP - 1), 2^TOP]; float16 ends just below 2^16.
TOP = 15
# More than any exponent that a float32 can need.
MAX_EXPONENT = 200


@dataclass(frozen=True, eq=False)
class Packed:
    """Numbers as they travel: `values` divided by 2 to the power of `exponent`, 0 in float32.

    The values, shape (n,), are float32, float16, or the bits of bfloat16 as uint16.
    """

    values: NDArray[Any]
    exponent: int
    transport: str

    @classmethod
    def of(cls, numbers: NDArray[np.float32], transport: str) -> Packed:
        """Round float32 numbers to a format; `ValueError` if it cannot carry NaN or infinity."""
        number, wire, bits = _FORMATS[transport]
        if transport == EXACT:
            return cls(numbers, 0, transport)
        largest = float(np.abs(numbers).max(initial=0.0))
        if not np.isfinite(largest):
            raise ValueError(f"NaN or infinite values cannot travel as {transport}")
        exponent = TOP - int(np.frexp(largest)[1]) if largest else 0
        # Of these, float32's last ones would be rounded up to infinity.
        last = (2.0 - 2.0 ** (1 - bits)) * 2.0**127
        if largest > last:
            numbers = numbers.clip(-last, last)
        return cls(np.ldexp(numbers, exponent).astype(number).view(wire), exponent, transport)

    def numbers(self) -> NDArray[np.float32]:
        """Return the numbers as float32; infinite where a sender's exponent makes them so."""
        if self.transport == EXACT:
            return self.values
        number, _, _ = _FORMATS[self.transport]
        with np.errstate(over="ignore"):
            return np.ldexp(self.values.view(number).astype(np.float32), -self.exponent)


def wire_dtype(transport: str) -> type:
    """Return the type of the array that numbers travel in."""
    return _FORMATS[transport][1]


def to_send(trained: Weights, start: Callable[[], Weights], transport: str) -> Weights:
    """Return what a reply carries of trained weights: in float32 they themselves.

    In other formats their difference from the weights received, which `start` returns.
    """
    if transport == EXACT:
        return trained
    with np.errstate(over="ignore", invalid="ignore"):  # `Packed.of` refuses what is not finite
        return replace(trained, floats=trained.floats - start().floats)


def as_trained(carried: Weights, start: Callable[[], Weights], transport: str) -> Weights:
    """Undo `to_send` with the weights that the request was made of; perhaps not finite."""
    if transport == EXACT:
        return carried
    with np.errstate(over="ignore"):
        return replace(carried, floats=start().floats + carried.floats)
