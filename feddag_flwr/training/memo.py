"""Remembers evaluations, so that one process does not repeat them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.metrics import Evaluation


class EvaluationMemo:
    """The last evaluations of this process, by the content of model and data.

    In simulation one process plays many clients, and those of one cluster often receive the same
    model and hold the same test data: the result is the same to the bit, so it is computed once.
    In a deployment each message has a process of its own, and nothing is remembered.

    Parameters
    ----------
    size : int
        Evaluations kept; the one that was used longest ago goes first.
    """

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._known: OrderedDict[bytes, Evaluation] = OrderedDict()

    def recall(
        self,
        parts: Mapping[str, Weights],
        data: LabelledSamples,
        sample_scale: Sequence[tuple[float, float]],
        evaluate: Callable[[], Evaluation],
    ) -> Evaluation:
        """Return what is known of this model on this data, or `evaluate` it.

        Parameters
        ----------
        parts : mapping of str to Weights
            The whole model.
        data : LabelledSamples
            Test data.
        sample_scale : sequence of (float, float)
            How the model's inputs are standardised.
        evaluate : callable
            Computes the evaluation; called at most once.
        """
        key = _digest(parts, data, sample_scale)
        found = self._known.pop(key, None)
        if found is None:
            found = evaluate()
        self._known[key] = found
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return found


def _digest(
    parts: Mapping[str, Weights], data: LabelledSamples, sample_scale: Sequence[tuple[float, float]]
) -> bytes:
    digest = hashlib.blake2b()
    digest.update(
        repr((list(parts), sample_scale, data.samples.shape, data.samples.dtype)).encode()
    )
    for weights in parts.values():
        for vector in (weights.floats, weights.buffers, weights.integers):
            digest.update(repr(vector.shape).encode())
            digest.update(np.ascontiguousarray(vector).data)
    digest.update(np.ascontiguousarray(data.samples).data)
    digest.update(np.ascontiguousarray(data.labels).data)
    return digest.digest()
