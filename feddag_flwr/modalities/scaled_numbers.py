"""Kinds of data that are scaled by mean and deviation of each number or channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.modalities.base import Modality, ModalityError, Rows, SampleSpec
from feddag_flwr.modalities.numbers import (
    PLAIN,
    check_deviation_rows,
    check_mean_rows,
    pooled_rows,
)


class ScaledNumbers(Modality):
    """Samples with one axis that all clients have in common; moments are means and mean squares.

    Attributes
    ----------
    unit : str
        What people call the places of that axis, in plural.
    """

    unit: str

    def check(self, spec: SampleSpec) -> None:
        """Refuse what is not one length alone."""
        if len(spec.shape) != 1 or spec.details:
            raise ModalityError(f"sample-shape must be one positive integer, got {spec.shape}")

    def check_moments(self, spec: SampleSpec, moments: Rows) -> None:
        """Refuse moments that no numbers have."""
        check_mean_rows(moments, spec.shape[0], self.unit)

    def scale(
        self, spec: SampleSpec, moments: Sequence[Rows], weights: NDArray[np.float64]
    ) -> Rows:
        """Return mean and deviation of each place."""
        del spec
        return pooled_rows(moments, weights)

    def plain_scale(self, spec: SampleSpec) -> Rows:
        """Return mean 0 and deviation 1 for each place."""
        return (PLAIN,) * spec.shape[0]

    def check_scale(self, spec: SampleSpec, scale: Rows) -> None:
        """Refuse deviations that are not positive."""
        check_deviation_rows(scale, spec.shape[0], self.unit)
