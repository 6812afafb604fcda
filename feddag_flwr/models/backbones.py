"""Networks of torchvision, by torchvision's own names, as encoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Names that the setting ``model`` takes as they are; before others of torchvision stands `PLACE`.
BACKBONES = ("resnet18", "resnet50", "efficientnet_b0", "vit_b_16")
PLACE = "torchvision.models"
# Pixels of the shorter side that all of them take.
SMALLEST = 32
# Of the classes that torchvision's networks tell: their last layer is known by it.
_CLASSES = 1000
_COLOURS = 3


class Backbone(nn.Module):
    """A classifier of torchvision without its last linear layer, for colour or grey images.

    What it needs three channels for it gets of a grey image, too: three times the same.

    Parameters
    ----------
    name : str
        As torchvision calls it: ``resnet18``.
    image_shape : (channels, height, width)
        A vision transformer is made for images of this size.

    Attributes
    ----------
    feature_size : int
        What the last layer took.
    head : str
        The last layer's name in files of weights.
    trunk : Module
        The network, with torchvision's names of parameters.

    Raises
    ------
    ValueError
        torchvision has no such classifier, it has no single last linear layer, or it does not take
        images of this shape.
    """

    def __init__(self, name: str, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        _check_name(name)
        _check_shape(name, image_shape)
        self.trunk = _made(name, image_shape)
        heads = [
            (path, layer)
            for path, layer in self.trunk.named_modules()
            if isinstance(layer, nn.Linear) and layer.out_features == _CLASSES
        ]
        if len(heads) != 1:
            raise ValueError(f"torchvision's {name} has {len(heads)} last linear layers, must be 1")
        ((self.head, last),) = heads
        self.feature_size = last.in_features
        parent, _, attribute = self.head.rpartition(".")
        setattr(self.trunk.get_submodule(parent), attribute, nn.Identity())

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, 1 or 3, height, width) to features (n, feature_size)."""
        features: Tensor = self.trunk(images.expand(-1, _COLOURS, -1, -1))
        return features

    def adapted(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors of a file for images of this size: a transformer's places are resampled.

        By torchvision's own ``interpolate_embeddings``.
        """
        from torchvision.models import VisionTransformer
        from torchvision.models.vision_transformer import interpolate_embeddings

        if not isinstance(self.trunk, VisionTransformer):
            return tensors
        size, patch = self.trunk.image_size, self.trunk.patch_size
        return dict(interpolate_embeddings(size, patch, dict(tensors)))


def backbone_name(model: str) -> str:
    """Return torchvision's name of what the setting ``model`` names; empty if it is none of it.

    What else torchvision has is no factory of encoders: called as one, it would download weights.
    Its whole reference comes back, which is the name of no classifier.
    """
    place, _, name = model.rpartition(":")
    if (name in BACKBONES and not place) or place == PLACE:
        return name
    return model if place.split(".")[0] == "torchvision" else ""


def _check_name(name: str) -> None:
    from torchvision import models  # takes a second

    if name not in models.list_models(module=models):
        raise ValueError(
            f"torchvision has no classifier {name!r}, must be {PLACE}:NAME; docs.pytorch.org lists "
            "all"
        )


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or shape[0] not in {1, _COLOURS}:
        raise ValueError(
            f"{name} takes grey images or such of three colours, 1 or 3 channels; these samples "
            f"are {' x '.join(map(str, shape))}: convert them"
        )
    if min(shape[1:]) < SMALLEST:
        raise ValueError(
            f"{name} needs images of {SMALLEST} x {SMALLEST} pixels at least, got {shape[1]} x "
            f"{shape[2]}: set image-size = {SMALLEST} or more"
        )


def _made(name: str, shape: tuple[int, ...]) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        if shape[1] != shape[2] or shape[1] % patch:
            raise ValueError(
                f"{name} needs square images whose side {patch} divides, got {shape[1]} x "
                f"{shape[2]}: set image-size = 224, on which it is mostly pretrained"
            )
        options["image_size"] = shape[1]
    made: nn.Module = models.get_model(name, weights=None, **options)
    if isinstance(made, models.Inception3 | models.GoogLeNet):
        raise ValueError(f"{name} has more than one output in training")
    return made.to(torch.float32)
