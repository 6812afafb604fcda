"""Items of a user's own dataset: a sample and the name or number of its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feddag_flwr.data.by_code.loading import is_pair
from feddag_flwr.data.cells import cell_text
from feddag_flwr.data.samples import DataError, in_one_line

# Keys of items that are mappings, the first that is there.
SAMPLE_KEYS = ("image", "img", "pixel_values", "embedding", "features", "input", "inputs", "x")
LABEL_KEYS = ("label", "labels", "target", "fine_label", "class", "y")


class LabelError(DataError):
    """A label is none: not to be passed over, for a class may go with all that have it."""


class Items:
    """A part of a user's own data, item by item.

    Parameters
    ----------
    where : str
        What errors begin with: the reference and the part's name.
    part : object
        A map-style dataset, or a pair of arrays.

    Attributes
    ----------
    part : object
        The same.
    """

    def __init__(self, where: str, part: Any) -> None:  # noqa: ANN401 - foreign code's
        self.where = where
        self.part = part
        self._pair = is_pair(part)

    def __len__(self) -> int:
        return len(self.part[0] if self._pair else self.part)

    def __getitem__(self, index: int) -> tuple[Any, str]:
        """Return a sample as it is, and its label as a text.

        A `DataError` names the item and says what is wrong with it; a `LabelError`, with its label.
        """
        try:
            item = self._read(index)
        except (Exception, SystemExit) as error:  # whatever foreign code raises
            raise DataError(
                f"{self.place(index)} raised {type(error).__name__}: {in_one_line(error)}; mend it "
                "or leave it out"
            ) from error
        sample, label = self._parted(index, item)
        return sample, self._label(index, label)

    def place(self, index: int) -> str:
        """Return what errors call an item."""
        return f"{self.where} item {index}"

    def class_names(self) -> tuple[str, ...]:
        """Names of classes that the dataset knows: ``classes``, or a Hugging Face ClassLabel's."""
        part = self.part
        while not self._pair and part is not None:
            classes = getattr(part, "classes", None)
            if isinstance(classes, Sequence) and all(isinstance(name, str) for name in classes):
                return tuple(classes)
            features = getattr(part, "features", None)
            if isinstance(features, Mapping):
                named = [features[key] for key in LABEL_KEYS if hasattr(features.get(key), "names")]
                return tuple(named[0].names) if named else ()
            part = getattr(part, "dataset", None)  # of a Subset
        return ()

    def _read(self, index: int) -> Any:  # noqa: ANN401
        if self._pair:
            return self.part[0][index], self.part[1][index]
        return self.part[index]

    def _parted(self, index: int, item: Any) -> tuple[Any, Any]:  # noqa: ANN401
        if isinstance(item, Mapping):
            return self._of(index, item, SAMPLE_KEYS), self._of(index, item, LABEL_KEYS)
        if isinstance(item, tuple | list) and len(item) == 2:
            return item[0], item[1]
        raise DataError(
            f"{self.place(index)} is a {type(item).__name__}; expected (sample, label), or a "
            "mapping such as {'image': .., 'label': ..}"
        )

    def _of(self, index: int, item: Mapping[str, Any], keys: Sequence[str]) -> Any:  # noqa: ANN401
        for key in keys:
            if key in item:
                return item[key]
        raise DataError(
            f"{self.place(index)} has {', '.join(map(repr, item))} and none of "
            f"{', '.join(map(repr, keys))}; rename one"
        )

    def _label(self, index: int, label: Any) -> str:  # noqa: ANN401
        shape = np.shape(label)
        if shape not in {(), (1,)} or label is None:
            what = "no label" if label is None else f"a label of shape {shape}"
            raise LabelError(f"{self.place(index)} has {what}; expected the class of one sample")
        value = np.asarray(label).reshape(-1)[0].item()
        if isinstance(value, str):
            text = cell_text(value)
        elif isinstance(value, bool | int | float) and value >= 0 and value == int(value):
            text = str(int(value))
        else:
            raise LabelError(
                f"{self.place(index)} has label {value!r}; classes are counted from 0, or texts"
            )
        if not text:
            raise LabelError(f"{self.place(index)} has no label; expected the class of one sample")
        return text


def as_image(sample: Any, where: str) -> Image.Image | NDArray[Any]:  # noqa: ANN401
    """Return a picture of Pillow's as it is, an array or a tensor as (channels, height, width).

    A tensor's channels come first, an array's last, unless their number, 1 to 4, says otherwise.
    Values are uint8, or floats in [0, 1]; a `DataError`, which begins with `where`, where not.
    """
    if isinstance(sample, Image.Image):
        return sample
    first = not isinstance(sample, np.ndarray)
    try:
        array = np.asarray(sample)
    except Exception as error:
        raise DataError(
            f"{where} is a {type(sample).__name__}; expected an image, an array or a tensor"
        ) from error
    array = _channels_first(array, where, first=first)
    if array.dtype == np.uint8:
        return array
    low, high = (float(array.min()), float(array.max())) if array.dtype.kind == "f" else (-1, -1)
    if not (low >= 0 and high <= 1):
        told = f"runs from {low:g} to {high:g}" if array.dtype.kind == "f" else "holds integers"
        raise DataError(
            f"{where} is {array.dtype} and {told}; expected uint8, or floats in [0, 1]: leave "
            "scaling to the federation's moments"
        )
    return array.astype(np.float32)


def _channels_first(array: NDArray[Any], where: str, *, first: bool) -> NDArray[Any]:
    if array.ndim == 2:
        array = array[np.newaxis]
    elif array.ndim == 3:
        leads, trails = 1 <= array.shape[0] <= 4, 1 <= array.shape[2] <= 4
        if trails and not (leads and first):
            array = array.transpose(2, 0, 1)
    if array.ndim != 3 or not 1 <= array.shape[0] <= 4 or 0 in array.shape:
        raise DataError(
            f"{where} has shape {array.shape}; expected an image (height, width), (channels, "
            "height, width) or (height, width, channels) with 1 to 4 channels"
        )
    return np.ascontiguousarray(array)
