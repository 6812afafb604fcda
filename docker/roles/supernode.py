"""A SuperNode that ends when it is at its end, for a restart policy to start it anew.

Takes the options of ``flower-supernode``. Flower 1.36 serves its node's inner API from a thread that
keeps the process alive when the node itself has failed, and its health service goes on answering. So
it stays, healthy and idle for ever, after it was refused: for instance because it was killed and came
back within the minute in which the SuperLink takes it to be still there ("Failed to activate"). Ended,
it is started again by Docker, with growing pauses, until the SuperLink takes it.
"""

import os
import sys
import traceback

from flwr.supernode.cli.flower_supernode import flower_supernode

EXIT_LOST = 1


def main() -> None:
    """Run the SuperNode; once it returns or raises, end this process with all its threads."""
    status = EXIT_LOST  # a SuperNode that works does not return
    try:
        flower_supernode()
    except SystemExit as end:  # asked to stop, or options that cannot be
        status = end.code if isinstance(end.code, int) else EXIT_LOST
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
