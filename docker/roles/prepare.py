"""Make a federation's keys and, to try it out, data: what is missing, and nothing anew.

In the folder given: ``keys/`` (as ``feddag-flwr keys`` makes them), and ``data/NODE/part.npz``, a
part of scikit-learn's digits for each node whose folder of data is not there yet.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from feddag_flwr.deployment.keys import make_keys

GREY_LEVELS = 17
# Nodes come in pairs that hold the same classes, so that there is a grouping to find.
CLASSES = ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))


def parts(
    images: NDArray[np.float64], labels: NDArray[np.int64], count: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
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
    list of tuple
        For each node its images, shape (m, 8, 8), 0 to 255, and labels, shape (m,).
    """
    groups = [CLASSES[(node // 2) % len(CLASSES)] for node in range(count)]
    made = []
    for node, classes in enumerate(groups):
        sharers = [other for other in range(count) if groups[other] == classes]
        mine = np.flatnonzero(np.isin(labels, classes))[sharers.index(node) :: len(sharers)]
        pixels = np.round(images[mine] * (255 / (GREY_LEVELS - 1))).astype(np.uint8)
        made.append((pixels, labels[mine].astype(np.int64)))
    return made


def make_data(folder: Path, nodes: Sequence[str]) -> None:
    """Write ``NODE/part.npz`` for each node without a folder."""
    digits = load_digits()
    dealt = parts(digits.images, digits.target, len(nodes))
    names = np.array([str(name) for name in digits.target_names])
    for node, (images, labels) in zip(nodes, dealt, strict=True):
        path = folder / node / "part.npz"
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            np.savez_compressed(path, images=images, labels=labels, class_names=names)
            print(path)


def main() -> int:
    """Prepare the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", required=True, help="under which nodes reach the SuperLink")
    parser.add_argument("--nodes", required=True, type=lambda text: text.split(","))
    options = parser.parse_args()
    for path in make_keys(options.folder / "keys", [options.host], options.nodes):
        print(path)
    make_data(options.folder / "data", options.nodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
