"""A SuperNode that ends when it is at its end, so that whoever watches it can start it anew.

Flower 1.36 serves a node's inner API from a thread that keeps the process alive when the node
itself has failed. So it would stay, idle for ever, after the SuperLink refused it: for instance
because it was killed and came back within the minute in which the SuperLink takes it to be still
there ("Failed to activate"). Ended, it is started again by systemd or Docker until it is taken.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

EXIT_LOST = 1


def run_supernode(options: Sequence[str]) -> int:
    """Run ``flower-supernode`` in this process until it is asked to stop or fails.

    Parameters
    ----------
    options : Sequence[str]
        Its options.

    Returns
    -------
    int
        The exit status; threads of Flower's may live on, see `main`.
    """
    from feddag_flwr.flower.private import flower_supernode  # takes a second

    sys.argv = ["flower-supernode", *options]
    try:
        flower_supernode()
    except SystemExit as end:  # asked to stop, or options that cannot be
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else EXIT_LOST
    except BaseException:
        traceback.print_exc()
    return EXIT_LOST  # a SuperNode that works does not return


def main(options: Sequence[str] | None = None) -> NoReturn:
    """Run a SuperNode, then end this process with all its threads.

    Parameters
    ----------
    options : Sequence[str] | None
        Of ``flower-supernode``; None for this process's command line.
    """
    status = run_supernode(sys.argv[1:] if options is None else options)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
