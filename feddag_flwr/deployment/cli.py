"""The commands ``feddag-flwr keys`` and ``supernode``."""

import argparse
from pathlib import Path
from typing import Any

from feddag_flwr.deployment import supernode
from feddag_flwr.deployment.keys import SERVER_DAYS, make_keys


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add these commands to the sub-commands of ``feddag-flwr``."""
    _add_keys(commands)
    _add_supernode(commands)


def _add_keys(commands: Any) -> None:  # noqa: ANN401
    keys = commands.add_parser(
        "keys",
        help="make the certificates and keys of a deployment",
        description="Make a private certificate authority, the SuperLink's certificate and a key "
        "pair a node. What is there already stays as it is: run it again to add nodes. Of what it "
        "writes, ca.crt goes to every host; server.pem, server.key and "
        "superexec.secret to the SuperLink's host; "
        "nodes/NAME/key to that node alone; nodes/NAME/key.pub to whoever registers nodes; ca.key "
        "nowhere.",
    )
    keys.add_argument("--output", type=Path, required=True, metavar="DIR")
    keys.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME_OR_IP",
        help="under which the SuperLink is reached; may be repeated; localhost and 127.0.0.1 "
        "always are",
    )
    keys.add_argument(
        "--node", action="append", default=[], metavar="NAME", help="a node; may be repeated"
    )
    keys.add_argument(
        "--days",
        type=int,
        default=SERVER_DAYS,
        metavar="N",
        help="validity of a new server certificate; default: %(default)s",
    )
    keys.add_argument(
        "--renew-server",
        action="store_true",
        help="make a new server certificate (other hosts, or the old one ends), signed by the "
        "same authority, so that no node needs anything new",
    )
    keys.set_defaults(handler=_keys)


def _add_supernode(commands: Any) -> None:  # noqa: ANN401
    # No character starts an option here: all words go to flower-supernode, --help too.
    parser = commands.add_parser(
        "supernode",
        help="flower-supernode, but it ends when it has failed, for systemd to start it again",
        prefix_chars="\0",
        add_help=False,
    )
    parser.add_argument("options", nargs="*")
    parser.set_defaults(handler=_supernode)


def _supernode(options: argparse.Namespace) -> int:
    supernode.main(options.options)


def _keys(options: argparse.Namespace) -> int:
    written = make_keys(
        options.output.expanduser(),
        options.host,
        options.node,
        days=options.days,
        renew_server=options.renew_server,
    )
    for path in written:
        print(path)
    if not written:
        print(f"all of it is in {options.output} already")
    return 0
