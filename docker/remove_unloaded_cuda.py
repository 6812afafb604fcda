"""Make an image for CPUs smaller: remove CUDA files that PyTorch does not load on a CPU.

PyPI's PyTorch for Linux is linked against CUDA, and the system's loader refuses to start it
without the libraries it is linked against. A good part of CUDA is not among them: cuDNN's engines
and Triton, for example, are opened only when a GPU is used. Which files those are is measured, not
listed: a training step runs, and what the process has not mapped into its memory goes. Then it runs
again.

With a CPU build of PyTorch (the image's argument TORCH_INDEX) there is nothing to remove.
"""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

# Prints the files that are mapped after what a client does: convolutions, batch norm, loss,
# backward, SGD with momentum, singular values, a half-precision copy.
TRAINING_STEP = """
import json
import torch
import torchvision.datasets
from torch import nn

encoder = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
model = nn.Sequential(*encoder, nn.Linear(72, 10))
optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5, weight_decay=1e-4)
for _ in range(2):
    images = torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)
    loss = nn.functional.cross_entropy(model(images), torch.arange(4))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
assert torch.isfinite(loss)
torch.linalg.svd(torch.rand(20, 30))
model[0].weight.detach().to(torch.bfloat16).sum()
with open("/proc/self/maps") as maps:
    print(json.dumps(sorted({line.split(maxsplit=5)[5].strip() for line in maps if "/" in line})))
"""
# Kept whatever they hold: Python's files are small, and licences stay with what they cover.
KEPT_SUFFIXES = {".py", ".pyc", ".pyi", ".txt", ".md"}


def mapped_files() -> set[Path]:
    """Run a training step in a process of its own and return the files it has mapped."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINING_STEP], check=True, stdout=subprocess.PIPE, text=True
    )
    return {Path(name).resolve() for name in json.loads(done.stdout)}


def removable(folder: Path, mapped: set[Path]) -> list[Path]:
    """Return the files below a folder that nobody needs who has mapped only these.

    Parameters
    ----------
    folder : Path
        Searched with all that is in it; it need not exist.
    mapped : set[Path]
        Files in use, resolved.

    Returns
    -------
    list[Path]
        Neither mapped files (or links to one), nor Python's files, nor texts such as licences.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.is_file() or path.is_symlink())
        and path.suffix.lower() not in KEPT_SUFFIXES
        and "licen" not in path.name.lower()
        and path.resolve() not in mapped
    )


def main() -> None:
    """Remove Triton, and of NVIDIA's packages what is not mapped; say how much that was."""
    packages = Path(sysconfig.get_path("purelib"))
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "--yes", "triton"], check=True)
    files = removable(packages / "nvidia", mapped_files())
    size = sum(path.lstat().st_size for path in files)
    for path in files:
        path.unlink()
    mapped_files()  # fails if anything is missed
    print(f"removed {len(files)} files of CUDA that no CPU loads, {size / 1e9:.2f} GB, and Triton")


if __name__ == "__main__":
    main()
