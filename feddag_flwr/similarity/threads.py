"""Linear algebra of many small matrices on one thread.

Threads that share out a matrix of 200 clients wait for each other longer than they work, and on a
busy machine each call waits for the next time slice: five times as long for phases 2 to 4 of 1,000
clients. Results do not depend on the machine's number of cores then either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

# Loaded first: the controller knows the libraries that are there when it is made.
import numpy as np  # noqa: F401
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARIES: Final = ThreadpoolController()


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate: while the function runs, BLAS and LAPACK use one thread."""

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LIBRARIES.limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
