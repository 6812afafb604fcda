"""What the images of a federation have in common: channels, height and width; and bits."""

from __future__ import annotations

import json
from typing import NamedTuple

from feddag_flwr.modalities.base import SampleSpec

# Bits that cameras and scanners have: which of them the largest value takes is an image's range.
DEPTHS = (8, 10, 12, 14, 16)


class ImageForm(NamedTuple):
    """What image files are brought to.

    Attributes
    ----------
    channels : int
        1: grey; 3: red, green, blue.
    bits : int
        Bits of those files that have more than 8 a channel: 0 to 2^bits - 1 becomes 0 to 255. 0
        where there are none.
    """

    channels: int
    height: int
    width: int
    bits: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (channels, height, width)."""
        return self.channels, self.height, self.width

    @property
    def spec(self) -> SampleSpec:
        """The same as travels."""
        return SampleSpec(self.shape, json.dumps({"bits": self.bits}) if self.bits else "")

    @classmethod
    def of(cls, spec: SampleSpec) -> ImageForm:
        """Read a spec; a `ValueError` says that it is of no images."""
        if len(spec.shape) != 3:
            raise ValueError(f"{spec.shape} is not (channels, height, width)")
        channels, height, width = spec.shape
        for bits in (0, *DEPTHS):
            form = cls(channels, height, width, bits)
            if form.spec.details == spec.details:
                return form
        raise ValueError(f"{spec.details[:80]} must be empty or say bits, one of {DEPTHS}")


def depth_of(highest: float) -> int:
    """Return the bits that values up to `highest` take, as `DEPTHS` has them."""
    return next(bits for bits in DEPTHS if highest < 2**bits)
