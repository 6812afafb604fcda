"""The device that a client computes on, its data there, and the cap on memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import load_modality
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import parameter_count
from feddag_flwr.settings import Settings
from feddag_flwr.training.settings import LocalTrainingSettings

MIB = 2**20
FLOAT_BYTES = 4


class DeviceError(RuntimeError):
    """The device asked for is missing, or the work does not fit under the memory cap."""


def prepare_device(settings: LocalTrainingSettings) -> torch.device:
    """Choose the device and make PyTorch and BLAS repeatable on it.

    A `DeviceError` says that the setting ``device`` asks for a GPU that is not there.
    """
    _limit_threads(settings.threads)
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(f"{name}:0" if name == "cuda" else name)
    if device.type == "cuda":
        _prepare_cuda(device, settings.device_memory)
    return device


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed PyTorch's global generators, the CPU's and the device's.

    A user's own network may draw from them, for dropout say. `torch.manual_seed` seeds all kinds of
    accelerators, too, and where there are none writes down the whole stack for each.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@lru_cache(maxsize=1)
def _limit_threads(threads: int) -> None:
    """Limit PyTorch and BLAS; kept, since looking for the libraries takes milliseconds."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _prepare_cuda(device: torch.device, cap_mib: int) -> None:
    if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"setting device = {str(device)!r}: {count} CUDA devices are there")
    # cuBLAS reads this when its first handle is made; without it some products are not repeatable.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    if cap_mib:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, cap_mib * MIB / total), device)


@dataclass(frozen=True)
class Samples:
    """Labelled samples on a device, n along the first axis, stored as the modality keeps them.

    `prepare` makes a model's inputs of stored samples; None where they are that already.
    """

    stored: Tensor
    labels: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, selection: Tensor | slice) -> Tensor:
        """Return the chosen samples as a model takes them, float32."""
        chosen = self.stored[selection]
        return chosen if self.prepare is None else self.prepare(chosen)


def check_memory(settings: Settings, data: LabelledSamples, model: ClusterModel) -> None:
    """Refuse work that would not fit under ``device-memory``, before anything is copied.

    Counts the samples as they will lie on the device, one cached feature vector a sample, and four
    copies of the model (weights, gradients, momentum, the copy as received). Activations of a batch
    come on top. The `DeviceError` says what is needed and what is allowed, in MiB.
    """
    if not settings.training.device_memory:
        return
    samples = load_modality(settings.data.modality).device_bytes(data.samples)
    features = FLOAT_BYTES * len(data) * model.feature_size
    needed = (samples + features + 4 * FLOAT_BYTES * parameter_count(model)) / MIB
    if needed > settings.training.device_memory:
        raise DeviceError(
            f"needs about {needed:.0f} MiB for {len(data)} samples, "
            f"setting device-memory = {settings.training.device_memory} MiB"
        )
