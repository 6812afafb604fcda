"""Time, memory and bytes of one client's profile, and what the cap on the SVD's samples costs.

One client with 6,000 made-up colour images of 32 x 32 pixels (3,072 features) in each of 10
classes. Every step runs in a fresh process that first makes the images, with the threads that a
client has:

    python benchmarks/client_profile.py --samples-per-class 6000 --classes 10
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from arguments import at_least
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from feddag_flwr.algorithms.feddag.messages import encode_profile
from feddag_flwr.data.pixels import pixel_moments, unit_pixels
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.modalities.image import Image
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_parts, get_weights
from feddag_flwr.models.registry import build_model
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY
from feddag_flwr.optimisers.sgd import SGD
from feddag_flwr.records import RequestHeader
from feddag_flwr.seeds import derived_seed, generator
from feddag_flwr.settings import Settings
from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.whole_model import WholeModel
from feddag_flwr.training.device import Samples, prepare_device
from feddag_flwr.training.local import batches
from feddag_flwr.training.profile import class_subspaces, make_profile

IMAGE_SHAPE = (3, 32, 32)
CLIENT = "client-0"
# Made-up images: a class's mean and smooth patterns, the k-th one of weight 1 / k, and noise.
COARSE, PATTERNS, NOISE = 6, 40, 0.1
CHUNK = 500


@dataclass(frozen=True)
class CandidateLosses:
    """One step's outcome.

    Attributes
    ----------
    seconds : float
        Of the step alone, without imports and without making the images.
    peak_mib : float
        Most memory that the step's process had, images and imports included.
    batches : int
        SGD steps that were measured, where there are any.
    message : dict of str to int
        Bytes of the profile message by part, where one was made.
    """

    seconds: float
    peak_mib: float
    batches: int = 0
    message: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a step works on."""

    settings: Settings
    data: LabelledSamples
    classes: int
    share: float
    output: Path

    @property
    def uncapped(self) -> Settings:
        """The settings with all samples of a class in the SVD."""
        return with_cap(self.settings, max(1, len(self.data)))

    @property
    def few(self) -> LabelledSamples:
        """The share of the data that the warm-up is measured on, at least one batch."""
        count = max(self.settings.training.batch_size, round(self.share * len(self.data)))
        order = generator(0, "few").permutation(len(self.data))
        return self.data.select(np.sort(order[:count]))

    @property
    def task(self) -> RequestHeader:
        """The common part of a profile request."""
        names = tuple(f"class {label}" for label in range(self.classes))
        scale = tuple(
            (mean, max(square - mean**2, 1e-12) ** 0.5)
            for mean, square in pixel_moments(self.data.samples)
        )
        return RequestHeader(CLIENT, 0, names, IMAGE_SHAPE, scale)

    def model(self, settings: Settings) -> ClusterModel:
        """Make the single-encoder model that is warmed up."""
        return build_model(
            settings.training.model, IMAGE_SHAPE, self.classes, dual=False, seed=settings.run.seed
        )


def with_cap(settings: Settings, cap: int) -> Settings:
    """Return the settings with another ``max-class-samples``."""
    return Settings.from_run_config(settings.to_run_config() | {"max-class-samples": cap})


def made_up_images(classes: int, samples_per_class: int) -> LabelledSamples:
    """Make smooth random images, class by class and in chunks, so that little else is held."""
    channels, side, _ = IMAGE_SHAPE
    images = np.empty((classes * samples_per_class, *IMAGE_SHAPE), dtype=np.uint8)
    labels = np.repeat(np.arange(classes, dtype=np.int64), samples_per_class)
    # From a coarse grid to pixels by linear interpolation, the same along both axes.
    positions = np.linspace(0, COARSE - 1, side)
    smooth = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(COARSE)))
    weights = 1 / np.arange(1, PATTERNS + 1)
    for label in range(classes):
        rng = generator(0, f"images-{label}")
        coarse = rng.standard_normal((PATTERNS + 1, channels, COARSE, COARSE))
        mean, *patterns = smooth @ coarse @ smooth.T
        basis = np.stack(patterns).reshape(PATTERNS, -1)
        first = label * samples_per_class
        for start in range(0, samples_per_class, CHUNK):
            count = min(CHUNK, samples_per_class - start)
            values = (rng.standard_normal((count, PATTERNS)) * weights) @ basis + mean.ravel()
            values += NOISE * rng.standard_normal(values.shape)
            pixels = np.clip(128 + 40 * values, 0, 255).reshape(count, *IMAGE_SHAPE)
            images[first + start : first + start + count] = pixels.astype(np.uint8)
    return LabelledSamples(images, labels)


# -- the steps, each in a process of its own -----------------------------------------------------


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def nothing(bench: Bench) -> CandidateLosses:
    """Hold the images and do nothing: the memory that every step starts from."""
    del bench
    return CandidateLosses(0.0, peak_mib())


def subspaces(bench: Bench, settings: Settings, name: str) -> CandidateLosses:
    """Take the SVD of every class and leave the vectors in a file."""
    start = time.perf_counter()
    vectors, classes = class_subspaces(
        bench.data,
        settings,
        generator(settings.run.seed, "subspace-samples", client=CLIENT),
    )
    seconds = time.perf_counter() - start
    np.savez(bench.output / f"{name}.npz", vectors=vectors, classes=classes)
    return CandidateLosses(seconds, peak_mib())


def capped(bench: Bench) -> CandidateLosses:
    """Take the SVD as it is by default."""
    return subspaces(bench, bench.settings, "capped")


def uncapped(bench: Bench) -> CandidateLosses:
    """Take the SVD of all samples."""
    return subspaces(bench, bench.uncapped, "uncapped")


def reference(bench: Bench) -> CandidateLosses:
    """Take one class's SVD the plain way, from all its samples."""

    def work() -> None:
        members = bench.data.samples[bench.data.labels == 0]
        np.linalg.svd(unit_pixels(members).reshape(len(members), -1).T, full_matrices=False)

    return CandidateLosses(timed(work), peak_mib())


def warm_up(bench: Bench) -> CandidateLosses:
    """Train for one epoch on a share of the data, after a first one on two batches."""
    settings, device = bench.settings, torch.device("cpu")
    model = bench.model(settings).to(device)

    def epoch(data: LabelledSamples) -> float:
        samples = Image().to_device(device, data, bench.task.sample_scale)
        rng = generator(settings.run.seed, "warm-up", client=CLIENT)
        return timed(lambda: train_an_epoch(model, samples, settings, rng))

    few = bench.few
    epoch(few.select(np.arange(min(len(few), 2 * settings.training.batch_size))))
    return CandidateLosses(epoch(few), peak_mib(), batches=count_batches(len(few), settings))


def whole(bench: Bench) -> CandidateLosses:
    """Make the whole profile, with one warm-up epoch on the share of the data, and encode it."""
    settings = Settings.from_run_config(
        bench.settings.to_run_config() | {"warmup-rounds": 1, "warmup-epochs": 1}
    )
    task, few = bench.task, bench.few
    start = time.perf_counter()
    model = bench.model(settings)
    received = get_weights(model.primary)
    samples, before = (
        Image().to_device(torch.device("cpu"), few, task.sample_scale),
        get_parts(model),
    )
    train_an_epoch(model, samples, settings, generator(settings.run.seed, "warm-up", client=CLIENT))
    made = make_profile(
        before,
        get_parts(model),
        bench.data,
        settings,
        client=CLIENT,
        num_classes=bench.classes,
        coordinate_seed=derived_seed(settings.run.seed, "profile-coordinates"),
        gradient_fraction=settings.profile.gradient_fraction,
        scale=task.sample_scale,
    )
    content = encode_profile(task, made, received)
    seconds = time.perf_counter() - start
    sizes: dict[str, int] = {}
    for record in content.array_records.values():
        for key, array in record.items():
            part = {"vector-classes": "vectors"}.get(key, key.partition(".")[0])
            sizes[part] = sizes.get(part, 0) + len(array.data)
    return CandidateLosses(seconds, peak_mib(), count_batches(len(few), settings), sizes)


def train_an_epoch(
    model: ClusterModel, samples: Samples, settings: Settings, rng: np.random.Generator
) -> None:
    """Train for one epoch, as the warm-up does."""
    config = LocalTrainingConfig.of(settings.training).with_epochs(1)
    TrainJob(model, samples, config, CROSS_ENTROPY, SGD, rng, WholeModel()).run()


def count_batches(samples: int, settings: Settings) -> int:
    """Count the batches of one epoch."""
    return sum(1 for _ in batches(samples, settings.training.batch_size, generator(0, "count")))


def peak_mib() -> float:
    """Most memory that this process has had."""
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


STEPS: dict[str, Callable[[Bench], CandidateLosses]] = {
    step.__name__: step for step in (nothing, capped, uncapped, reference, warm_up, whole)
}


def run_step(step: str, arguments: argparse.Namespace) -> CandidateLosses:
    """Run a step in this process."""
    settings = Settings.from_run_config({"device": "cpu", "threads": arguments.threads})
    prepare_device(settings.training)
    data = made_up_images(arguments.classes, arguments.samples_per_class)
    return STEPS[step](Bench(settings, data, arguments.classes, arguments.share, arguments.output))


def run_step_in_fresh_process(step: str, arguments: argparse.Namespace) -> CandidateLosses:
    """Run a step in a new interpreter, so that its peak memory is its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", step]
    for name in ("samples_per_class", "classes", "threads", "share", "output"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return CandidateLosses(**json.loads(done.stdout))


# -- the report ----------------------------------------------------------------------------------


def largest_angles(output: Path) -> dict[int, float]:
    """Largest principal angle in degrees between the capped and uncapped subspace, by class."""

    def read(name: str) -> dict[int, NDArray[np.float64]]:
        with np.load(output / f"{name}.npz") as file:
            vectors, classes = file["vectors"].astype(np.float64), file["classes"]
        return {int(label): vectors[classes == label] for label in np.unique(classes)}

    some, every = read("capped"), read("uncapped")
    return {
        label: float(np.degrees(scipy.linalg.subspace_angles(some[label].T, every[label].T).max()))
        for label in every
    }


def report_steps(
    found: dict[str, CandidateLosses], arguments: argparse.Namespace, settings: Settings
) -> Table:
    """Tabulate seconds, memory and the ratio to the plain reference."""
    classes, images = arguments.classes, arguments.classes * arguments.samples_per_class
    base, plain = found["nothing"].peak_mib, found["reference"].seconds * classes
    epoch_batches = count_batches(images, settings)
    epoch = found["warm_up"].seconds * epoch_batches / found["warm_up"].batches
    epochs = settings.profile.warmup_rounds * settings.profile.warmup_epochs
    table = Table(
        title=f"Profile of one client: {images:,} images of "
        f"{np.prod(IMAGE_SHAPE):,} features, {classes} classes, "
        f"{settings.training.threads} thread(s)"
    )
    table.add_column("step")
    for column in ("seconds", "of the reference", "peak RSS MiB", "above the images MiB"):
        table.add_column(column, justify="right")

    def add(label: str, seconds: float, step: str, *, ratio: bool = False) -> None:
        peak = found[step].peak_mib
        table.add_row(
            label,
            f"{seconds:.2f}",
            f"{seconds / plain:.3f}" if ratio else "-",
            f"{peak:.0f}",
            f"{max(0.0, peak - base):.0f}",
        )

    add("the images, imports; nothing done", 0.0, "nothing")
    cap = settings.profile.max_class_samples
    add(f"class-wise SVD, at most {cap:,} samples", found["capped"].seconds, "capped", ratio=True)
    add("class-wise SVD, all samples", found["uncapped"].seconds, "uncapped", ratio=True)
    add(
        f"numpy.linalg.svd: one class measured, times {classes}", plain, "reference", ratio=True
    )  # fmt: skip
    add(
        f"one warm-up epoch: {found['warm_up'].batches} of {epoch_batches} batches measured, "
        "extrapolated",
        epoch,
        "warm_up",
    )
    add(f"whole warm-up: {epochs} epochs, extrapolated", epochs * epoch, "warm_up")
    add(
        f"make_profile and encode, with {found['whole'].batches} warm-up batches only",
        found["whole"].seconds,
        "whole",
    )
    return table


def report_message(sizes: dict[str, int]) -> Table:
    """Tabulate the bytes of the profile message by part."""
    table = Table(title="The profile message")
    table.add_column("part")
    for column in ("bytes", "share"):
        table.add_column(column, justify="right")
    total = sum(sizes.values())
    for part, size in [*sizes.items(), ("total", total)]:
        table.add_row(part, f"{size:,}", f"{size / total:.1%}")
    return table


def report_angles(angles: dict[int, float]) -> Table:
    """Tabulate what the cap does to the subspaces."""
    table = Table(title="Largest principal angle, capped against uncapped subspace")
    table.add_column("class")
    table.add_column("degrees", justify="right")
    for label, angle in angles.items():
        table.add_row(str(label), f"{angle:.2f}")
    table.add_section()
    table.add_row("mean", f"{np.mean(list(angles.values())):.2f}")
    table.add_row("max", f"{max(angles.values()):.2f}")
    return table


def share(text: str) -> float:
    """Read a number in (0, 1] of the command line."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]")
    return number


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    positive = at_least(1)
    parser.add_argument("--samples-per-class", type=at_least(10), default=6000)
    parser.add_argument("--classes", type=positive, default=10)
    parser.add_argument("--threads", type=positive, default=1, help="a client's, as the setting")
    parser.add_argument(
        "--share", type=share, default=0.02, help="of an epoch's samples that are trained on"
    )
    parser.add_argument("--worker", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        sys.stdout.write(json.dumps(asdict(run_step(arguments.worker, arguments))))
        return
    load = os.getloadavg()[0]
    settings = Settings.from_run_config({"device": "cpu", "threads": arguments.threads})
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        arguments.output = Path(folder)
        found = {step: run_step_in_fresh_process(step, arguments) for step in STEPS}
        angles = largest_angles(arguments.output)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(report_steps(found, arguments, settings))
    console.print(report_message(found["whole"].message))
    console.print(report_angles(angles))
    console.print(
        "The images are made up: smooth patterns of weight 1, 1/2, 1/3, .. a class, and noise; "
        "angles on real images differ. "
        f"{os.cpu_count()} cores, load before the start {load:.1f}: of an idle machine about 0."
    )


if __name__ == "__main__":
    main()
