"""How a person's own samples become the inputs of an exported model, for programs to follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.modalities import Rows
from feddag_flwr.modalities.columns import Table

BYTE = 255


def image_recipe(form: ImageForm) -> Mapping[str, Any]:
    """Say how an image file becomes an input (channels, height, width), step by step.

    ``cover`` resizes so that one side is as said and the other is no smaller; ``crop`` begins at
    half of what is over. Both at once, with the ``box`` of the image that is seen in the end, gives
    the very pixels of training; one after the other, pixels may be a grey level off. Deep files
    are those with more than 8 bits a channel; where no image of the federation was, they are none
    that the model takes.
    """
    size = {"width": form.width, "height": form.height}
    bilinear = {"filter": "bilinear", "antialias": True}
    return {
        "exif-orientation": "applied",
        "full-scale-of-deep-files": 2**form.bits - 1 if form.bits else None,
        "background-of-transparency": BYTE,
        "mode": "L" if form.channels == 1 else "RGB",
        "cover": {**size, **bilinear, "other-side": "in proportion, rounded down"},
        "crop": {**size, "place": "centre", "offset": "rounded, halves to even"},
        "box": {
            "left": "crop left * own width / covering width",
            "top": "crop top * own height / covering height",
            "right": "crop right * own width / covering width",
            "bottom": "crop bottom * own height / covering height",
        },
        "divide-by": BYTE,
        "axes": ["channel", "row", "column"],
    }


def table_recipe(table: Table, scale: Rows) -> Mapping[str, Any]:
    """Say what each number of a row is, and by what the model scales it itself.

    Parameters
    ----------
    table : Table
    scale : tuple of (mean, deviation)
        Of each number of a row.
    """
    numbers = len(table.numbers)
    columns: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": "number",
            "value-at": place,
            "missing-flag-at": numbers + place,
            "mean": mean,
            "deviation": deviation,
        }
        for place, (name, (mean, deviation)) in enumerate(zip(table.numbers, scale, strict=False))
    ]
    start = 2 * numbers
    for column in table.categories:
        levels: Sequence[str] = column.levels or ()
        columns.append(
            {
                "name": column.name,
                "kind": "category",
                "missing-or-unknown-at": start,
                "level-at": {level: start + 1 + place for place, level in enumerate(levels)},
            }
        )
        start += 1 + len(levels)
    return {
        "width": table.width,
        "missing-number": "NaN, and 1 at missing-flag-at",
        "category": "1 at one of its places; whole numbers are written without a point",
        "scaling": "inside the model: (value - mean) / deviation, then 0 for NaN",
        "columns": columns,
    }
