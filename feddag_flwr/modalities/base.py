"""What a modality is: everything that depends on what a sample is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from feddag_flwr.augmentations import Augmentation
    from feddag_flwr.data.samples import LabelledSamples
    from feddag_flwr.training.device import Samples

# A few numbers for each channel, column, .. of the samples: rows of one length.
Rows = tuple[tuple[float, ...], ...]


class ModalityError(ValueError):
    """What a client or a server says of samples cannot be."""


class SampleSpec(NamedTuple):
    """What all samples of a federation have in common.

    Attributes
    ----------
    details : str
        What else a modality has to say, such as names of columns: JSON, written alike by all.
    """

    shape: tuple[int, ...]
    details: str = ""


class Modality(ABC):
    """A kind of data.

    Samples are held as one array whose first axis is the sample; which types and shapes it may have
    is for the modality to say.

    Attributes
    ----------
    array : str
        Name of the samples in an .npz archive.
    noun : str
        What people call one sample.
    prepared_anew : bool
        Whether clients whose samples fit, but are of another spec, prepare them anew and tell of
        them once more; else `in_spec` and `moments_in` do with what there is.
    """

    array: str = "samples"
    noun: str = "sample"
    prepared_anew: bool = False

    @abstractmethod
    def accept(self, samples: NDArray[Any], where: str) -> NDArray[Any]:
        """Check a person's array, and bring it to the form in which samples are held.

        A `DataError` begins with `where` and says what is expected.
        """

    def spec(self, samples: NDArray[Any]) -> SampleSpec:
        """Return what the samples have in common: by default their shape.

        Samples are as `accept` or as `in_spec` returns them.
        """
        return SampleSpec(tuple(samples.shape[1:]))

    def in_words(self, spec: SampleSpec) -> str:
        """Write a spec for people."""
        return " x ".join(map(str, spec.shape))

    @abstractmethod
    def check(self, spec: SampleSpec) -> None:
        """Refuse a spec from the wire, of positive integers already, by a `ModalityError`."""

    def agreed(self, specs: Sequence[SampleSpec], weights: NDArray[np.float64]) -> SampleSpec:
        """Return the federation's spec, from those of its clients, one at least, and their weights.

        By default the one that most clients have, of equally common ones the smallest; weights,
        which say what each client counts, have no say in it.
        """
        del weights
        tally = Counter(specs)
        return min(tally, key=lambda spec: (-tally[spec], spec))

    def check_fit(self, own: SampleSpec, spec: SampleSpec) -> None:
        """Refuse a client whose samples cannot be brought to the federation's spec.

        By a `ModalityError` that has both sides. By default both must be equal.
        """
        self.check_same(own, spec)

    def check_same(self, own: SampleSpec, spec: SampleSpec) -> None:
        """Refuse samples of another spec by a `ModalityError` that has both sides."""
        if own != spec:
            details = f" ({own.details[:200]!r}, not {spec.details[:200]!r})"
            raise ModalityError(
                f"samples are {self.in_words(own)}, those of the federation {self.in_words(spec)}"
                + (details if own.shape == spec.shape else "")
            )

    def left_out(self, own: SampleSpec, spec: SampleSpec) -> tuple[str, ...]:
        """Name what a client's samples have and the federation's have not: nothing."""
        del own, spec
        return ()

    def in_spec(self, samples: NDArray[Any], spec: SampleSpec) -> NDArray[Any]:
        """Bring a client's samples, which fit, to the federation's spec; by default they are."""
        del spec
        return samples

    def moments_in(self, spec: SampleSpec, own: SampleSpec, moments: Rows) -> Rows:
        """Bring a client's moments, which are of its `own` spec, to the federation's alike."""
        del spec, own
        return moments

    @abstractmethod
    def moments(self, samples: NDArray[Any]) -> Rows:
        """Return what a client says of its training samples, for the federation's scale."""

    @abstractmethod
    def check_moments(self, spec: SampleSpec, moments: Rows) -> None:
        """Refuse moments from the wire, which are finite already, by a `ModalityError`."""

    @abstractmethod
    def scale(
        self, spec: SampleSpec, moments: Sequence[Rows], weights: NDArray[np.float64]
    ) -> Rows:
        """Return the federation's scale, from all clients' moments and weights that add up to 1.

        The moments are those that `moments_in` returns.
        """

    @abstractmethod
    def plain_scale(self, spec: SampleSpec) -> Rows:
        """Return the scale that leaves samples as they are (setting ``standardise`` = false)."""

    @abstractmethod
    def check_scale(self, spec: SampleSpec, scale: Rows) -> None:
        """Refuse a scale from the wire, which is finite already, by a `ModalityError`."""

    @abstractmethod
    def to_device(self, device: torch.device, data: LabelledSamples, scale: Rows) -> Samples:
        """Copy samples to a device, scaled or to be scaled batch by batch."""

    def device_bytes(self, samples: NDArray[Any]) -> int:
        """Bytes that samples take on the device: by default 4 for each number."""
        return 4 * samples.size

    def augment(
        self,
        inputs: Tensor,
        scale: Rows,
        augmentation: Augmentation,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return a model's inputs changed at random: not for a kind that does not say how."""
        del inputs, scale, augmentation, rng
        raise ModalityError(f"setting augmentation: not for {type(self).__name__}, must be 'none'")

    @abstractmethod
    def subspace_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return the vectors whose subspaces phase 1 and PACFL compare, shape (n, d)."""

    @abstractmethod
    def subspace_features(self, spec: SampleSpec) -> int:
        """Length d of these vectors."""

    def reduced_shape(self, spec: SampleSpec) -> tuple[int, ...] | None:
        """Shape of a smaller version of a sample; None where there is none."""
        del spec
        return None

    def reduced_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return the `subspace_matrix` of smaller versions of the samples (setting ``view``)."""
        del samples, scale
        raise ModalityError(f"setting view: {type(self).__name__} has no smaller samples")

    @abstractmethod
    def default_encoder(self, spec: SampleSpec) -> nn.Module:
        """Make the encoder of ``model = "auto"``, with an int ``feature_size``."""

    def example(self, spec: SampleSpec, count: int) -> Tensor:
        """Return inputs to try a model on: by default zeros."""
        import torch

        return torch.zeros(count, *spec.shape)
