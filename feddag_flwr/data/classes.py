"""Whether a client's data fits the federation: its classes, matched by name, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from feddag_flwr.class_names import class_name, in_other_writing
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.samples import DataError, LabelledSamples


def in_classes(data: ClientData, class_names: Sequence[str]) -> ClientData:
    """Return the same data with labels that index `class_names`.

    Parameters
    ----------
    data : ClientData
        Labels index the client's own ``class_names``.
    class_names : sequence of str
        The federation's classes.

    Raises
    ------
    DataError
        The client holds samples of a class that the federation does not know.
    """
    if tuple(class_names) == data.class_names:
        return data
    position = {class_name(name): index for index, name in enumerate(class_names)}
    found = [position.get(class_name(name), -1) for name in data.class_names]
    table = np.array(found, dtype=np.int64)

    def translated(part: LabelledSamples) -> LabelledSamples:
        labels = table[part.labels]
        if (labels < 0).any():
            unknown = data.class_names[part.labels[labels.argmin()]]
            raise DataError(
                f"client {data.name!r}: class {unknown!r} is none of the federation's "
                f"{list(class_names)}{in_other_writing([unknown], class_names)}"
            )
        return replace(part, labels=labels)

    return replace(
        data,
        train=translated(data.train),
        test=translated(data.test),
        class_names=tuple(class_names),
    )


def check_sample_shape(data: ClientData, sample_shape: tuple[int, int, int]) -> None:
    """Refuse images of another shape than the federation's, (channels, height, width).

    Raises
    ------
    DataError
        Names the client and both shapes.
    """
    found = data.train.samples.shape[1:]
    if found != sample_shape:
        raise DataError(
            f"client {data.name!r}: images are {_in_words(found)}, the federation's are "
            f"{_in_words(sample_shape)} (channels x height x width)"
        )


def _in_words(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
