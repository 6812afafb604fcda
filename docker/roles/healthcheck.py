"""Exit with 0 if a Flower process of this container answers, and is connected where it must be.

Flower's health service answers as long as its process lives, whether a SuperNode has reached its
SuperLink or not; an established connection says more.
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

SECONDS = 5.0
ESTABLISHED = "01"  # of the Linux kernel, include/net/tcp_states.h
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def answers(address: str) -> bool:
    """Return whether the health service at an address (host:port, no TLS) says SERVING."""
    with grpc.insecure_channel(address) as channel:
        try:
            reply = HealthStub(channel).Check(HealthCheckRequest(), timeout=SECONDS)
        except grpc.RpcError:
            return False
    return bool(reply.status == HealthCheckResponse.SERVING)


def connected(port: int, tables: str) -> bool:
    """Return whether there is an established connection to a remote port.

    Parameters
    ----------
    port : int
        The other side's.
    tables : str
        Lines of ``/proc/net/tcp``: slot, local address, remote address (IP:port, hexadecimal),
        state, and more.

    Returns
    -------
    bool
        Whether one of the lines is of such a connection.
    """
    rows = (line.split() for line in tables.splitlines())
    return any(
        len(row) > 3 and row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows
    )


def main() -> int:
    """Check what the command line asks for, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the health service, host:port")
    parser.add_argument("--connected-to", type=int, metavar="PORT", help="of another container")
    options = parser.parse_args()
    if not answers(options.address):
        print(f"no answer from {options.address}")
        return 1
    tables = "\n".join(table.read_text() for table in TABLES if table.exists())
    if options.connected_to and not connected(options.connected_to, tables):
        print(f"not connected to port {options.connected_to}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
