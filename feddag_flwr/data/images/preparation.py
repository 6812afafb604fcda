"""Image files as one array: decoded once, and mapped into memory where they are many."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

from feddag_flwr.data.images.decoding import decode
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.progress import in_threads
from feddag_flwr.data.images.survey import Survey, survey
from feddag_flwr.data.mapped import Notes, cache_folder, clear_unused, mapped_rows, usable_folder
from feddag_flwr.data.samples import DataError

logger = logging.getLogger("flwr")

# Bytes of a set of images from which on they are kept in a file.
IN_MEMORY = 16 * 2**20
# Files from which on what their heads say is kept, too.
MANY_FILES = 1000
# Changes where other pixels come of the same file.
VERSION = 1


class Reading(NamedTuple):
    """How image files are read.

    Attributes
    ----------
    side : int
        Height and width (setting ``image-size``); 0: those of most images.
    skip : bool
        Whether files that cannot be read are passed over, or refused (``on-bad-file``).
    cache : str
        Folder for prepared images (node config ``cache-path``); empty: the user's own.
    """

    side: int = 0
    skip: bool = True
    cache: str = ""


class Prepared(NamedTuple):
    """Decoded images, and which files they are of."""

    pixels: NDArray[np.uint8]  # (n, channels, height, width)
    places: list[int]  # (n,), in the list of files


class ImageFiles:
    """Image files that are read together.

    Parameters
    ----------
    root : Path
        Where they are, for messages and for the name of what is kept of them.
    files : sequence of Path
    reading : Reading
    """

    def __init__(self, root: Path, files: Sequence[Path], reading: Reading) -> None:
        self.root = root
        self.files = list(files)
        self.reading = reading
        self.bad: dict[int, str] = {}

    @cached_property
    def survey(self) -> Survey:
        """What the heads of the files say; a `DataError` where none can be read, or one must be."""
        many = len(self.files) >= MANY_FILES
        found = survey(self.files, self._entry / "survey.json" if many else None)
        self._pass_over(dict(found.bad))
        if not found.readable:
            raise DataError(f"{self.root}: no file can be read, the first: {found.bad[0][1]}")
        return found

    @property
    def own_form(self) -> ImageForm:
        """The form that these files would have if there were no others."""
        return self.survey.form(self.reading.side)

    def is_large(self, form: ImageForm) -> bool:
        """Tell whether the images are kept in a file."""
        return len(self.files) * math.prod(form.shape) > IN_MEMORY

    def prepare(self, form: ImageForm, part: slice, name: str) -> Prepared:
        """Decode a part of the files, called by a name; without those that cannot be read."""
        self.survey  # noqa: B018 - fills `bad`
        places = [place for place in range(*part.indices(len(self.files))) if place not in self.bad]
        files = [self.files[place] for place in places]
        if len(files) * math.prod(form.shape) > IN_MEMORY:
            pixels, bad = self._mapped(files, form, name)
        else:
            pixels, bad = self._in_memory(files, form)
        self._pass_over({places[index]: reason for index, reason in bad.items()})
        return Prepared(pixels, [place for place in places if place not in self.bad])

    def _pass_over(self, bad: dict[int, str]) -> None:
        if bad and not self.reading.skip:
            raise DataError(bad[min(bad)])
        self.bad |= bad

    def _in_memory(
        self, files: Sequence[Path], form: ImageForm
    ) -> tuple[NDArray[np.uint8], dict[int, str]]:
        try:
            pixels = np.empty((len(files), *form.shape), np.uint8)
        except MemoryError as error:
            raise DataError(
                f"{self.root}: {len(files):,} images of {form.width} x {form.height} pixels do not "
                "fit into memory"
            ) from error
        bad: dict[int, str] = {}
        rows = 0
        for decoded in _decoded(files, form, bad):
            pixels[rows] = decoded
            rows += 1
        return pixels[:rows], bad

    def _mapped(
        self, files: Sequence[Path], form: ImageForm, name: str
    ) -> tuple[NDArray[np.uint8], dict[int, str]]:
        def make(file: BinaryIO) -> Notes:
            logger.info("preparing %d images as %s of %s", len(files), form.shape, self.root)
            bad: dict[int, str] = {}
            rows = 0
            for decoded in _decoded(files, form, bad):
                file.write(decoded.tobytes())
                rows += 1
            return {"rows": rows, "bad": bad}

        path = self._entry / "-".join(map(str, (name, *form)))
        try:
            pixels, notes = mapped_rows(path, form.shape, make, len(files))
        except OSError as error:
            raise DataError(
                f"{self.root}: prepared images cannot be kept ({error}); node config cache-path "
                "names another folder"
            ) from error
        return pixels, {int(place): str(reason) for place, reason in notes["bad"].items()}

    @cached_property
    def _entry(self) -> Path:
        """Return the folder for what is kept of these files as they are now."""
        state = hashlib.blake2b(repr((VERSION, PIL.__version__)).encode(), digest_size=12)
        for file in self.files:
            try:
                status = file.stat()
                changed = status.st_mtime_ns, status.st_size
            except OSError:  # it went meanwhile: reading it will say so
                changed = 0, 0
            state.update(repr((str(file), *changed)).encode())
        data = hashlib.blake2b(str(self.root).encode(), digest_size=12).hexdigest()
        kept = usable_folder(cache_folder(self.reading.cache)) / "images"
        entry = kept / data / state.hexdigest()
        if not entry.is_dir():
            entry.mkdir(parents=True, exist_ok=True, mode=0o700)
            clear_unused(kept, entry)
        return entry


def _decoded(
    files: Sequence[Path], form: ImageForm, bad: dict[int, str]
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of files in order; those that cannot be read go into `bad`."""
    read = partial(decode, form=form)
    for index, outcome in enumerate(in_threads(read, files, "preparing")):
        if isinstance(outcome, DataError):
            bad[index] = str(outcome)
        else:
            yield outcome
