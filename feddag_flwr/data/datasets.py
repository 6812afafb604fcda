"""The datasets that the setting ``dataset`` names, each loaded once a process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from feddag_flwr.data.array_files import read_arrays
from feddag_flwr.data.files import read_npz
from feddag_flwr.data.folders import AS_FOUND, FolderOfClasses, read_domain_folders
from feddag_flwr.data.holdout import stratified_share, with_test_part
from feddag_flwr.data.images.fitting import fitted_arrays
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import Reading
from feddag_flwr.data.samples import DataError, Dataset, LabelledSamples, Parts
from feddag_flwr.data.series_files import read_series
from feddag_flwr.data.tables import TableOptions, read_table
from feddag_flwr.modalities import SampleSpec, load_modality
from feddag_flwr.settings import Settings

# Modalities whose archives `read_arrays` reads; those of users are read as images are.
_ARRAYS = frozenset({"tabular", "series", "embedding"})


def load_dataset(settings: Settings) -> Dataset:
    """Load the dataset; a second call in the same process returns the same object."""
    data = settings.data
    return _load_dataset(
        data.dataset,
        data.data_dir,
        data.modality,
        data.download,
        settings.run.seed,
        data.test_fraction,
        data.train_share,
        data.test_share,
        data.scenario == "domains",
        reading_of(settings),
        TableOptions.of(data),
    )


def reading_of(settings: Settings, cache: str = "") -> Reading:
    """Return how image files are read, by the settings and a node's ``cache-path``."""
    return Reading(settings.data.image_size, settings.data.on_bad_file == "skip", cache)


@lru_cache(maxsize=2)
def _load_dataset(
    name: str,
    data_dir: str,
    modality: str,
    download: bool,
    seed: int,
    test_fraction: float,
    train_share: float,
    test_share: float,
    by_domain: bool,
    reading: Reading,
    options: TableOptions,
) -> Dataset:
    if name == "digits":
        parts = _in_form(_read_digits(), reading)
    elif by_domain:
        parts = read_domain_folders(_path(data_dir), reading)
    elif name in {"npz", "image-folder", "table"}:
        parts = read_own(name, data_dir, modality, options, reading=reading)
    else:
        parts = _in_form(_read_torchvision(name, _path(data_dir), download), reading)
    train, test = with_test_part(parts, test_fraction, seed, origin=f"dataset {name!r}")
    return Dataset(
        name,
        stratified_share(train, train_share, seed, purpose="train-share"),
        stratified_share(test, test_share, seed, purpose="test-share"),
        parts.class_names,
        parts.domain_names,
        parts.spec,
    )


def read_own(
    kind: str,
    path: str,
    modality: str,
    options: TableOptions,
    client: str = "",
    *,
    reading: Reading = AS_FOUND,
    spec: SampleSpec | None = None,
    unlabelled: bool = False,
) -> Parts:
    """Read a person's own data, of the kind that the setting ``dataset`` says.

    An .npz archive ('npz'), a tree of images ('image-folder') or a table ('table'), of which
    `client` says whose rows where it holds those of many. Images are brought to the federation's
    `spec` where it is known. Where `unlabelled` lets it, an archive of images may lack labels, and
    images may lie in no folder of a class.
    """
    if not path:
        raise DataError(f"data-dir = '': dataset {kind!r} needs a folder or file")
    if kind == "table":
        if modality == "series":
            return read_series(_path(path), load_modality(modality), options, client)
        return read_table(_path(path), options, client)
    if kind == "npz" and modality in _ARRAYS:
        return read_arrays(_path(path), load_modality(modality), options)
    if kind == "npz":
        parts = read_npz(_path(path), load_modality(modality), unlabelled=unlabelled)
        return _in_form(parts, reading, spec) if modality == "image" else parts
    folder = FolderOfClasses(_path(path), reading, unlabelled=unlabelled)
    return folder.read_and_tell(None if spec is None else ImageForm.of(spec))


def _in_form(parts: Parts, reading: Reading, spec: SampleSpec | None = None) -> Parts:
    """Bring the images of arrays to a spec, or to the size that the setting ``image-size`` says."""
    channels, height, width = parts.train.samples.shape[1:]
    own = ImageForm(channels, reading.side or height, reading.side or width)
    form = own if spec is None else ImageForm.of(spec)
    if form.channels != channels and {form.channels, channels} != {1, 3}:
        raise DataError(f"images of {channels} channel(s) cannot become such of {form.channels}")

    def fit(part: LabelledSamples) -> LabelledSamples:
        return LabelledSamples(fitted_arrays(part.samples, form), part.labels)

    test = None if parts.test is None else fit(parts.test)
    return parts._replace(train=fit(parts.train), test=test, spec=form.spec)


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
