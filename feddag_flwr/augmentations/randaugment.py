"""RandAugment (Cubuk et al. 2020), as torchvision has it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from feddag_flwr.augmentations import Augmentation


def randaugment(samples: Tensor, rng: np.random.Generator, /) -> Tensor:
    """Change each image by two operations drawn at random, at torchvision's default strength.

    Torchvision draws from PyTorch's global generator, which is put back afterwards. Images of other
    than 1 or 3 channels raise a `ValueError`.
    """
    if samples.shape[1] not in (1, 3):
        raise ValueError(f"randaugment takes 1 or 3 channels, these have {samples.shape[1]}")
    from torchvision.transforms.v2 import RandAugment  # not at the start: most runs need it not

    change = RandAugment()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return torch.stack([change(image) for image in samples]).clamp(0.0, 1.0)


RANDAUGMENT: Augmentation = randaugment
