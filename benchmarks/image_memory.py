"""Memory that a client of many photographs takes, and whether they are decoded once.

Makes JPEGs of 500 x 375 pixels, smooth pictures drawn at random, in a temporary folder, and reads
them twice as a client does, each time in a process of its own: told who it is, scaled by its own
moments, profiled, and two passes over all training batches. The first process decodes, the second
finds what the first has kept:

    python benchmarks/image_memory.py --files 20000 --output benchmarks/results/image_memory.json

Peak memory is that of the process with all its libraries (resident, and what is its own alone:
without the pages of mapped files, which the system takes back when it needs them). A few pictures
are drawn and linked under many names, since only how often they are read matters here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from arguments import at_least
from PIL import Image

WIDTH, HEIGHT = 500, 375
CLASSES = 10
DISTINCT = 200
BATCH = 64
PERIOD = 0.05
MIB = 2**20


def make_pictures(folder: Path, files: int) -> None:
    """Write so many JPEGs into folders of classes, from `DISTINCT` pictures."""
    rng = np.random.default_rng(0)
    drawn = []
    (folder / "drawn").mkdir(parents=True)
    for number in range(min(DISTINCT, files)):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        drawn.append(folder / "drawn" / f"{number}.jpg")
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(drawn[-1], quality=85)
    for number in range(files):
        path = folder / "ward" / f"class-{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(drawn[number % len(drawn)], path)


class Peak:
    """The most memory that this process took, looked at by a thread of its own."""

    def __init__(self) -> None:
        self.resident = self.own = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._over.wait(PERIOD):
            memory = process.memory_info()
            self.resident = max(self.resident, memory.rss)
            self.own = max(self.own, memory.rss - memory.shared)

    def taken(self) -> dict[str, int]:
        """End the watch; return MiB resident and of the process alone."""
        self._over.set()
        self._thread.join()
        return {"resident-mib": self.resident // MIB, "own-mib": self.own // MIB}


def read_as_client(folder: Path, size: int) -> dict[str, Any]:
    """Do what a client does with its images; return seconds of each step and the peak memory."""
    import torch

    from feddag_flwr.data.scenarios import load_client_data
    from feddag_flwr.modalities import load_modality
    from feddag_flwr.settings import Settings
    from feddag_flwr.training.local import batches
    from feddag_flwr.training.profile import class_subspaces

    peak, seconds, start = Peak(), {}, time.perf_counter()

    def done(step: str) -> None:
        nonlocal start
        now = time.perf_counter()
        seconds[step], start = round(now - start, 2), now

    settings = Settings.from_run_config(
        {"scenario": "own", "dataset": "image-folder", "image-size": size}
    )
    node = {"data-path": str(folder / "ward"), "cache-path": str(folder / "cache")}
    data = load_client_data(settings, node)
    done("load")
    modality = load_modality("image")
    moments = modality.moments(data.train.samples)
    scale = modality.scale(modality.spec(data.train.samples), [moments], np.ones(1))
    done("moments")
    vectors, _ = class_subspaces(data.train, settings, np.random.default_rng(0))
    done("subspaces")
    samples = modality.to_device(torch.device("cpu"), data.train, scale)
    for epoch in ("first epoch", "second epoch"):
        for index in batches(len(samples), BATCH, np.random.default_rng(0)):
            samples.inputs(index)
        done(epoch)
    return {
        "images": len(data.train) + len(data.test),
        "shape": list(data.train.samples.shape[1:]),
        "vector-bytes": vectors.nbytes,
        "seconds": seconds,
        "peak": peak.taken(),
    }


def measure(files: int, size: int) -> dict[str, Any]:
    """Make pictures, and read them in two processes one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder), files)
        command = [sys.executable, __file__, "--read", folder, "--size", str(size)]
        runs = [subprocess.run(command, check=True, capture_output=True) for _ in range(2)]
        found = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    return {"files": files, "image-size": size, "decoding": found[0], "kept": found[1]}


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=at_least(20), default=2000)
    parser.add_argument("--size", type=at_least(8), default=128)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        print(json.dumps(read_as_client(options.read, options.size)))
        return
    text = json.dumps(measure(options.files, options.size), indent=2)
    print(text)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
