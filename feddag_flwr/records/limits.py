"""What the server believes of any reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.records.values import RecordError


@dataclass(frozen=True, eq=False)
class Limits:
    """Bounds of a run, the same for all clients; made once by the server.

    Attributes
    ----------
    max_samples : int
        Largest believable number of samples (setting ``max-client-samples``). A client's data may
        have grown since it described itself.
    evaluated : bool
        Whether participants evaluate the model as received (setting ``evaluate-participants``).
    subspace_size : float
        The setting of that name: bounds the vectors of a class.
    modality : str
        The kind of samples (setting ``modality``).
    variances : mapping of str to ndarray of int
        A part (``primary``, ``secondary``, ``classifier``): where in its buffers running variances
        are, see `feddag_flwr.models.flat.variance_places`.
    """

    max_samples: int
    evaluated: bool = True
    subspace_size: float = 3.0
    modality: str = "image"
    variances: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)

    def check_variances(self, part: str, weights: Weights) -> None:
        """Refuse running variances below 0: the model would give NaN.

        Parameters
        ----------
        part : str
            A part's name: perhaps numbered (``0/primary``), or ``transfer``, which is a secondary
            encoder.
        weights : Weights
            What a client sent.

        Raises
        ------
        RecordError
            Names the part.
        """
        name = part.rpartition("/")[2]
        places = self.variances.get("secondary" if name == "transfer" else name)
        if places is not None and (weights.buffers[places] < 0).any():
            raise RecordError(f"{name}: a running variance is negative")
