"""What the server believes of any reply."""

from __future__ import annotations

import sys
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
    max_reply_bytes : int
        Size of a reply at most (setting ``max-reply-size``).
    view : str
        What subspaces are of (setting ``view``).
    variances : mapping of str to ndarray of int
        A part (``primary``, ``secondary``, ``classifier``): where in its buffers running variances
        are, see `feddag_flwr.models.flat.variance_places`.
    """

    max_samples: int
    evaluated: bool = True
    subspace_size: float = 3.0
    modality: str = "image"
    view: str = "auto"
    variances: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)
    max_reply_bytes: int = sys.maxsize

    def check_weights(self, part: str, weights: Weights) -> None:
        """Refuse weights that are not finite, and running variances below 0, which give NaN.

        A part's name may be numbered (``0/primary``); ``transfer`` is a secondary encoder.
        """
        if not weights.is_finite:
            raise RecordError(f"{part}: the update is too long")
        name = part.rpartition("/")[2]
        places = self.variances.get("secondary" if name == "transfer" else name)
        if places is not None and (weights.buffers[places] < 0).any():
            raise RecordError(f"{name}: a running variance is negative")
