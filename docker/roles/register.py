"""Tell the SuperLink which nodes there are: those whose public keys lie in a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from connection import connect

from feddag_flwr.deployment.superlink import SuperLink

KNOWN = "public key already in use"


def register(superlink: SuperLink, key: Path) -> str:
    """Register a node.

    Parameters
    ----------
    superlink : SuperLink
    key : Path
        The node's public key.

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
        return f"node {superlink.ask(['supernode', 'register', str(key)])['node-id']}"
    except RuntimeError as error:
        if KNOWN not in str(error).lower():
            raise
        return "registered already"


def main() -> int:
    """Register every ``*.pub`` of the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the public keys and of ca.crt")
    parser.add_argument("--control-api", default="superlink:9093")
    options = parser.parse_args()
    keys = sorted(options.folder.glob("*.pub"))
    if not keys:
        print(f"{options.folder} holds no *.pub: no node to register", file=sys.stderr)
        return 1
    superlink = connect(options.control_api, options.folder / "ca.crt")
    for key in keys:
        print(f"{key.stem}: {register(superlink, key)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
