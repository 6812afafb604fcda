"""Tell the SuperLink which nodes there are: those whose public keys lie in a folder."""

import argparse
import sys
from pathlib import Path

from connection import flwr, write_connection

KNOWN = "Public key already in use"


def register(key: Path) -> str:
    """Register a node.

    Parameters
    ----------
    key : Path
        Its public key.

    Returns
    -------
    str
        What to tell: its node id, or that it is registered already.

    Raises
    ------
    RuntimeError
        If the SuperLink refuses for another reason.
    """
    try:
        return f"node {flwr('supernode', 'register', str(key))['node-id']}"
    except RuntimeError as error:
        if KNOWN.lower() not in str(error).lower():
            raise
        return "registered already"


def main() -> int:
    """Register every ``*.pub`` of the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--control-api", default="superlink:9093")
    options = parser.parse_args()
    write_connection(options.control_api, str(options.folder / "ca.crt"))
    keys = sorted(options.folder.glob("*.pub"))
    if not keys:
        print(f"{options.folder} holds no *.pub: no node to register", file=sys.stderr)
        return 1
    for key in keys:
        print(f"{key.stem}: {register(key)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
