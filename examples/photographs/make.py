"""Make what the example needs: drawn pictures of four clients, and a file of random weights.

python examples/photographs/make.py photographs
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torchvision.models import resnet18

CLIENTS = 4
PICTURES = 12  # of each kind, a client
KINDS = ("disc", "square")


def picture(kind: str, rng: np.random.Generator) -> Image.Image:
    """Draw a disc or a square somewhere on a noisy ground, in a size of its own."""
    width, height = (int(side) for side in rng.integers(72, 120, 2))
    ground = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(ground)
    left, top = (int(place) for place in rng.integers(8, 32, 2))
    box = (left, top, left + 36, top + 36)
    colour = tuple(int(level) for level in rng.integers(140, 256, 3))
    draw = ImageDraw.Draw(image)
    (draw.ellipse if kind == "disc" else draw.rectangle)(box, fill=colour)
    return image


def make(folder: Path) -> None:
    """Write ``clients/CLIENT/KIND/NUMBER.jpg`` and ``resnet18.safetensors``, alike each time."""
    rng = np.random.default_rng(1)
    for client in range(CLIENTS):
        for kind in KINDS:
            place = folder / "clients" / f"camera-{client}" / kind
            place.mkdir(parents=True, exist_ok=True)
            for number in range(PICTURES):
                picture(kind, rng).save(place / f"{number:02}.jpg", quality=90)
    torch.manual_seed(1)
    save_file(resnet18(weights=None).state_dict(), folder / "resnet18.safetensors")


if __name__ == "__main__":
    make(Path(sys.argv[1] if len(sys.argv) > 1 else "photographs"))
