import numpy as np
import pytest
from digit_runs import run_of
from PIL import Image


@pytest.fixture(scope="session")
def feddag(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def fedavg(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("runs"), algorithm="fedavg")


@pytest.fixture(scope="session")
def fedsoft(tmp_path_factory):
    return run_of(
        tmp_path_factory.mktemp("runs"), algorithm="fedsoft", num_clusters=2, participation=1.0
    )


@pytest.fixture
def archive(feddag, tmp_path):
    """Client 0's test data as an archive."""
    test = feddag.data.test
    path = tmp_path / "ward.npz"
    np.savez(
        path,
        images=np.moveaxis(test.samples, 1, 3),
        labels=test.labels,
        class_names=np.array(feddag.data.class_names),
    )
    return path


@pytest.fixture
def tree(feddag, tmp_path):
    """Client 0's test data as PNG files, each in a folder of its class."""
    test, root = feddag.data.test, tmp_path / "tree"
    for index, (image, label) in enumerate(zip(test.samples, test.labels, strict=True)):
        folder = root / "deep" / feddag.data.class_names[label]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
        Image.fromarray(pixels[0]).save(folder / f"{index:03d}.png")
    return root
