"""Remembers evaluations, so that one process does not repeat them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.metrics import Evaluation


class EvaluationMemo:
    """The last evaluations of this process, by the content of model and data.

    In simulation one process plays many clients, and those of one cluster often receive the same
    model and hold the same test data: the result is the same to the bit, so it is computed once.
    In a deployment each message has a process of its own, and nothing is remembered.
    """

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._known: OrderedDict[bytes, Evaluation] = OrderedDict()

    def recall(
        self,
        parts: Mapping[str, Weights],
        data: LabelledSamples,
        context: object,
        evaluate: Callable[[], Evaluation],
    ) -> Evaluation:
        """Return what is known of this model on this data, or `evaluate` it.

        `context` is what else decides: how inputs are scaled, the metrics; equal ones print alike.
        """
        key = _digest(parts, data, context)
        evaluation = self._known.pop(key, None)
        if evaluation is None:
            evaluation = evaluate()
        self._known[key] = evaluation
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return evaluation


def _digest(parts: Mapping[str, Weights], data: LabelledSamples, context: object) -> bytes:
    digest = hashlib.blake2b()
    digest.update(repr((list(parts), context, data.samples.shape, data.samples.dtype)).encode())
    for weights in parts.values():
        for vector in (weights.floats, weights.buffers, weights.integers):
            digest.update(repr(vector.shape).encode())
            digest.update(np.ascontiguousarray(vector).data)
    digest.update(np.ascontiguousarray(data.samples).data)
    digest.update(np.ascontiguousarray(data.labels).data)
    return digest.digest()
