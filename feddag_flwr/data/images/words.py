"""What becomes of image files, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import ImageFiles
from feddag_flwr.data.images.survey import Survey

# Names in a sentence at most.
MOST_NAMED = 5


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def bad_in_words(images: ImageFiles) -> Iterator[str]:
    """Say which files are passed over because they cannot be read."""
    if bad := images.bad:
        named = listed([bad[place] for place in sorted(bad)])
        yield f"{len(bad)} of {len(images.files)} files cannot be read and are passed over: {named}"


def changes_in_words(survey: Survey, form: ImageForm) -> Iterator[str]:
    """Say what becomes of images of other sizes, and of more than 8 bits a channel."""
    to = f"{form.width} x {form.height}"
    if any((height, width) != (form.height, form.width) for height, width, _ in survey.sizes):
        found = listed([f"{w} x {h} ({n})" for h, w, n in survey.sizes])
        several = len(survey.sizes) > 1
        sizes = f"images of {len(survey.sizes)} sizes" if several else "images"
        yield f"{sizes}, width x height: {found}; all become {to}"
    if survey.deep:
        yield (
            f"{survey.deep} of {survey.readable} files have more than 8 bits a channel: "
            f"0 to {2**form.bits - 1} becomes 0 to 255"
        )
