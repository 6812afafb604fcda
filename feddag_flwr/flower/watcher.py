"""Outlives the caller of `private_home`: ``python -m feddag_flwr.flower.watcher FOLDER``.

A caller that is killed cannot clear up. Its end of this process's input closes all the same.
"""

import signal
import sys
from pathlib import Path

from feddag_flwr.flower.private_home import clear


def main() -> None:
    """Wait for the end of the input; then clear the folder, where it is still there."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    home = Path(sys.argv[1])
    sys.stdin.buffer.read()
    if home.exists():
        clear(home)


if __name__ == "__main__":
    main()
