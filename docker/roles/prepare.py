"""Make a federation's keys and, to try it out, data: what is missing, and nothing anew.

In the folder given: ``keys/`` (see ``feddag-flwr keys --help``; and ``superexec.secret``, which the
SuperLink and its SuperExec share), and ``data/NODE/part.npz``, a part of scikit-learn's digits for each
node whose folder of data is not there yet.
"""

import argparse
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from feddag_flwr.deployment.key_files import PRIVATE, write_new
from numpy.typing import NDArray
from sklearn.datasets import load_digits

SECRET_BYTES = 32
GREY_LEVELS = 17
# Nodes come in pairs that hold the same classes, so that there is a grouping to find.
CLASSES = ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))


def make_keys(folder: Path, host: str, nodes: Sequence[str]) -> None:
    """Run ``feddag-flwr keys``, and make the secret of the SuperExec."""
    names = [option for node in nodes for option in ("--node", node)]
    command = ["feddag-flwr", "keys", "--output", str(folder), "--host", host, *names]
    subprocess.run(command, check=True)
    secret = folder / "superexec.secret"
    if not secret.exists():
        write_new(secret, secrets.token_bytes(SECRET_BYTES), PRIVATE)
        print(secret)


def parts(
    images: NDArray[np.float64], labels: NDArray[np.int64], count: int
) -> list[dict[str, NDArray[np.integer]]]:
    """Deal images to nodes: neighbours share classes, no two share an image.

    Parameters
    ----------
    images : NDArray
        Shape (n, 8, 8), grey levels 0 to 16.
    labels : NDArray
        Shape (n,).
    count : int
        Number of nodes.

    Returns
    -------
    list of dict
        For each node the arrays ``images`` (uint8) and ``labels`` of its archive.
    """
    groups = [CLASSES[(node // 2) % len(CLASSES)] for node in range(count)]
    made = []
    for node, classes in enumerate(groups):
        sharers = [other for other in range(count) if groups[other] == classes]
        mine = np.flatnonzero(np.isin(labels, classes))[sharers.index(node) :: len(sharers)]
        pixels = np.round(images[mine] * (255 / (GREY_LEVELS - 1))).astype(np.uint8)
        made.append({"images": pixels, "labels": labels[mine].astype(np.int64)})
    return made


def make_data(folder: Path, nodes: Sequence[str]) -> None:
    """Write ``NODE/part.npz`` for each node without a folder."""
    digits = load_digits()
    for node, arrays in zip(nodes, parts(digits.images, digits.target, len(nodes)), strict=True):
        path = folder / node / "part.npz"
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            np.savez_compressed(path, **arrays)
            print(path)


def main() -> int:
    """Prepare the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", required=True, help="under which nodes reach the SuperLink")
    parser.add_argument("--nodes", required=True, type=lambda text: text.split(","))
    options = parser.parse_args()
    make_keys(options.folder / "keys", options.host, options.nodes)
    make_data(options.folder / "data", options.nodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
