"""Whether a client's data fits the federation: its classes, matched by name, and its samples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from feddag_flwr.class_names import class_name, in_other_writing
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities import Modality, ModalityError, SampleSpec


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


def in_spec(data: ClientData, spec: SampleSpec, modality: Modality) -> ClientData:
    """Return the same data with samples of the federation's spec.

    `DataError` where they cannot be brought to it; it names both.
    """
    try:
        modality.check_fit(data.spec_by(modality), spec)
    except ModalityError as error:
        raise DataError(f"client {data.name!r}: {error}") from error

    def brought(part: LabelledSamples) -> LabelledSamples:
        samples = modality.in_spec(part.samples, spec)
        return part if samples is part.samples else replace(part, samples=samples)

    return replace(
        data,
        train=brought(data.train),
        test=brought(data.test),
        validation=data.validation and brought(data.validation),
        spec=spec,
    )
