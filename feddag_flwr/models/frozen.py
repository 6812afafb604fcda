"""A frozen network of torchvision whose features stand for images (``view`` = ``encoder``)."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.pretrained import matched, read_tensors
from feddag_flwr.models.registry import build_encoder

# Images that go through it at a time.
BATCH = 32
KIND = "encoder"


class FrozenEncoder(NamedTuple):
    """Which network, and which weights, by their digest and where they lie on each host.

    Attributes
    ----------
    model : str
        As the setting ``model`` names networks of torchvision.
    digest : str
        First digits of the file's SHA-256: by it all clients have the same weights.
    """

    model: str
    digest: str
    weights: str

    @classmethod
    def parsed(cls, view: str) -> FrozenEncoder:
        """Read ``encoder|MODEL|DIGEST|FILE``."""
        _, model, digest, weights = view.split("|", 3)
        return cls(model, digest, weights)

    @property
    def name(self) -> str:
        """The encoder as `parsed` reads it."""
        return "|".join((KIND, *self))

    def feature_size(self, shape: tuple[int, ...]) -> int:
        """Return the length of its features, for which no weights are needed."""
        return _feature_size(self.model, shape)

    def features(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """Map standardised images (n, channels, height, width) to features (n, feature_size)."""
        encoder = _loaded(self, images.shape[1:])
        with torch.no_grad():
            batches = torch.split(torch.from_numpy(images), BATCH)
            return torch.cat([encoder(batch) for batch in batches]).double().numpy()

    def check(self) -> None:
        """Refuse a file that is not there, or another one, by a `ModelError` with the remedy."""
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise ModelError(
                f"setting view-weights = {self.weights!r}: no such file on this host; every client "
                "needs it there"
            )
        found = _sha256(path, path.stat().st_mtime_ns)
        if not found.startswith(self.digest):
            raise ModelError(
                f"setting view-weights = {self.weights!r}: its SHA-256 does not begin with "
                f"view-digest = {self.digest!r}; put the federation's file there"
            )


@lru_cache(maxsize=8)
def _feature_size(model: str, shape: tuple[int, ...]) -> int:
    with torch.random.fork_rng(devices=[]):
        size: int = build_encoder(model, shape).feature_size  # type: ignore[assignment]
    return size


@lru_cache(maxsize=4)
def _sha256(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=2)
def _loaded(frozen: FrozenEncoder, shape: tuple[int, ...]) -> nn.Module:
    frozen.check()
    path = Path(frozen.weights).expanduser()
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(frozen.model, shape)
    encoder.load_state_dict(matched(encoder, read_tensors(path), path).tensors)
    return encoder.eval()
