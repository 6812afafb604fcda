"""A SuperNode that ends when it is at its end, so that whoever watches it can start it anew.

Flower 1.36 serves a node's inner API from a thread that keeps the process alive when the node
itself has failed. So it would stay, idle for ever, after the SuperLink refused it: for instance
because it was killed and came back within the minute in which the SuperLink takes it to be still
there ("Failed to activate"). Ended, it is started again by systemd or Docker until it is taken.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from feddag_flwr.flower.processes import loopback_without_proxy
from feddag_flwr.flower.run_config import Value, parse_overrides

EXIT_LOST = 1
EXIT_USAGE = 2
NODE_CONFIG = "--node-config"


def run_supernode(options: Sequence[str]) -> int:
    """Run ``flower-supernode`` here until it is asked to stop or fails; return the exit status.

    Threads of Flower's may live on, see `main`.
    """
    try:
        checked = check_node_config(options)
    except ValueError as error:
        print(f"feddag-flwr supernode: {error}", file=sys.stderr)
        return EXIT_USAGE
    from feddag_flwr.flower.private import flower_supernode  # takes a second

    sys.argv = ["flower-supernode", *checked]
    try:
        flower_supernode()
    except SystemExit as end:  # asked to stop, or options that cannot be
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else EXIT_LOST
    except BaseException:
        traceback.print_exc()
    return EXIT_LOST  # a SuperNode that works does not return


def check_node_config(options: Sequence[str]) -> list[str]:
    """Read ``--node-config``, of which Flower would pass over what it does not understand.

    It may be there several times, with ``key=value`` pairs or a TOML file; in the options returned
    it is there once, with pairs. A `ValueError` names the part that cannot be read.
    """
    parser = argparse.ArgumentParser(prog="feddag-flwr supernode", add_help=False)
    parser.add_argument(NODE_CONFIG, action="append", default=[])
    given, others = parser.parse_known_args(options)
    config = parse_overrides(given.node_config, NODE_CONFIG)
    pairs = " ".join(f"{key}={_as_toml(value)}" for key, value in config.items())
    return [*others, NODE_CONFIG, pairs] if pairs else others


def _as_toml(value: Value) -> str:
    """Write a value as Flower's parser takes it: no quote within quotes."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)[1:-1]
        return '"' + text.replace('\\"', "\\u0022").replace("\x7f", "\\u007f") + '"'
    return str(value).lower()


def main(options: Sequence[str] | None = None) -> NoReturn:
    """Run a SuperNode, then end this process with all its threads."""
    # The client app's process asks this one for its messages, over HTTP.
    os.environ.update(loopback_without_proxy(os.environ))
    status = run_supernode(sys.argv[1:] if options is None else options)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
