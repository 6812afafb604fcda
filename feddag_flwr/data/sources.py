"""The data sources that the setting ``source`` names, each loaded once a process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from feddag_flwr.data.files import read_domain_folders, read_image_folder, read_npz
from feddag_flwr.data.holdout import stratified_share, with_test_part
from feddag_flwr.data.samples import DataError, LabelledSamples, Parts, Source
from feddag_flwr.settings import Settings

__all__ = ["DataError", "LabelledSamples", "Source", "load_source", "read_own"]


def load_source(settings: Settings) -> Source:
    """Load the data source; a second call in the same process returns the same object.

    Parameters
    ----------
    settings : Settings
        Uses ``source``, ``data-dir``, ``download``, ``seed``, ``test-fraction``, ``train-share``
        and ``test-share``, and whether ``scenario`` is domains.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        When the data is missing or not as it must be.
    """
    return _load_source(_Wanted.of(settings), settings.scenario == "domains")


@dataclass(frozen=True)
class _Wanted:
    """The settings that a source depends on; the key under which it is kept."""

    source: str
    data_dir: str
    download: bool
    seed: int
    test_fraction: float
    train_share: float
    test_share: float

    @classmethod
    def of(cls, settings: Settings) -> _Wanted:
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


@lru_cache(maxsize=2)
def _load_source(wanted: _Wanted, by_domain: bool) -> Source:
    if wanted.source == "digits":
        parts = _read_digits()
    elif by_domain:
        parts = read_domain_folders(_path(wanted.data_dir))
    elif wanted.source in {"npz", "image-folder"}:
        parts = read_own(wanted.source, wanted.data_dir)
    else:
        parts = _read_torchvision(wanted.source, _path(wanted.data_dir), wanted.download)
    origin = f"source {wanted.source!r}"
    train, test = with_test_part(parts, wanted.test_fraction, wanted.seed, origin=origin)
    return Source(
        wanted.source,
        stratified_share(train, wanted.train_share, wanted.seed, purpose="train-share"),
        stratified_share(test, wanted.test_share, wanted.seed, purpose="test-share"),
        parts.class_names,
        parts.domain_names,
    )


def read_own(kind: str, path: str) -> Parts:
    """Read an .npz archive or a tree of images (setting ``source`` is 'npz' or 'image-folder')."""
    if not path:
        raise DataError(f"data-dir = '': source {kind!r} needs a folder or file")
    return read_npz(_path(path)) if kind == "npz" else read_image_folder(_path(path))


def _path(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _read_digits() -> Parts:
    """Read scikit-learn's 8 x 8 digits, their 17 grey levels spread over 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, np.newaxis]
    names = tuple(str(name) for name in digits.target_names)
    return Parts(LabelledSamples(images, digits.target.astype(np.int64)), None, names)


def _read_torchvision(name: str, root: Path, download: bool) -> Parts:
    """Read a torchvision data set from its arrays, without a transform a sample."""
    from torchvision import datasets

    kinds: dict[str, tuple[Any, tuple[Any, Any]]] = {
        "fashion-mnist": (datasets.FashionMNIST, ({"train": True}, {"train": False})),
        "cifar10": (datasets.CIFAR10, ({"train": True}, {"train": False})),
        "cifar100": (datasets.CIFAR100, ({"train": True}, {"train": False})),
        "svhn": (datasets.SVHN, ({"split": "train"}, {"split": "test"})),
    }
    kind, parts = kinds[name]
    try:
        with _download_lock(root) if download else nullcontext():
            train, test = (kind(str(root), download=download, **part) for part in parts)
    except Exception as error:
        # torchvision lets whatever its readers meet in a damaged file come through
        if "not found" in str(error):
            remedy = f"data-dir = {str(root)!r}: data set {name!r} not found there; "
            remedy += "expected the files as torchvision stores them (or set download = true)"
        elif download:
            remedy = f"data-dir = {str(root)!r}: data set {name!r} could not be downloaded or read"
        else:
            remedy = f"data-dir = {str(root)!r}: data set {name!r} could not be read; "
            remedy += "delete its files and set download = true"
        raise DataError(f"{remedy} ({type(error).__name__}: {error})") from error
    labels = "labels" if name == "svhn" else "targets"
    class_names = getattr(train, "classes", None) or range(10)  # SVHN names no classes
    return Parts(
        _labelled(name, train.data, getattr(train, labels)),
        _labelled(name, test.data, getattr(test, labels)),
        tuple(str(class_name) for class_name in class_names),
    )


def _download_lock(root: Path) -> AbstractContextManager[object]:
    """Lock `root` so that processes which start together download once."""
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / ".feddag-download.lock")


def _labelled(name: str, data: ArrayLike, labels: ArrayLike) -> LabelledSamples:
    images = np.asarray(data, dtype=np.uint8)
    if name == "fashion-mnist":
        images = images[:, np.newaxis]
    elif name != "svhn":  # SVHN has its channels first already
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return LabelledSamples(images, np.asarray(labels, dtype=np.int64))
