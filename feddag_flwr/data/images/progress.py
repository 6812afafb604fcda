"""Many files read by several threads, in order, with a word now and then on how far it is."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.samples import DataError

logger = logging.getLogger("flwr")

Result = TypeVar("Result")
# Fewer files than this are read one after the other.
FEW = 64
# Threads at most: a machine may have more cores than its disk bears.
MOST_THREADS = 8
# Seconds between two lines.
PERIOD = 10.0


def in_threads(
    read: Callable[[Path], Result], files: Sequence[Path], doing: str
) -> Iterator[Result | DataError]:
    """Yield what `read` makes of each file, in order, or the `DataError` that it raises.

    Pillow decodes without Python's lock. No more files than a chunk's are in memory at once.
    """

    def outcome(file: Path) -> Result | DataError:
        try:
            return read(file)
        except DataError as error:
            return error

    if len(files) < FEW:
        yield from map(outcome, files)
        return
    start = said = time.monotonic()
    with ThreadPoolExecutor(min(MOST_THREADS, _cores())) as pool:
        for chunk in chunks_of(len(files)):
            yield from pool.map(outcome, files[chunk])
            if (now := time.monotonic()) - said > PERIOD:
                said, rate = now, chunk.stop / (now - start)
                logger.info(
                    "%s images: %d of %d (%.0f a second)", doing, chunk.stop, len(files), rate
                )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
