"""Whether a client's data fits the federation: its classes, matched by name, and its samples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from feddag_flwr.class_names import class_name, in_other_writing
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities import Modality, SampleSpec


def in_classes(data: ClientData, class_names: Sequence[str]) -> ClientData:
    """Return the same data with labels that index the federation's `class_names`.

    Data without labels stays as it is. `DataError` where the client holds samples of a class that
    the federation does not know.
    """
    if tuple(class_names) == data.class_names or not data.labelled:
        return data
    position = {class_name(name): index for index, name in enumerate(class_names)}
    places = [position.get(class_name(name), -1) for name in data.class_names]
    table = np.array(places, dtype=np.int64)

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
        validation=data.validation and translated(data.validation),
        class_names=tuple(class_names),
    )


def check_spec(data: ClientData, spec: SampleSpec, modality: Modality) -> None:
    """Refuse samples of another kind than the federation's by a `DataError` that names both."""
    own = modality.spec(data.train.samples)
    if own == spec:
        return
    details = f" ({own.details[:200]}, not {spec.details[:200]})" if own.shape == spec.shape else ""
    raise DataError(
        f"client {data.name!r}: samples are {modality.in_words(own)}, the federation's are "
        f"{modality.in_words(spec)}{details}"
    )
