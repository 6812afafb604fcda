"""From a reference to the parts that a user's own loader returns."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from feddag_flwr.data.by_code.context import LoadContext
from feddag_flwr.data.samples import DataError, in_one_line

# What a part may be called.
PART_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
RETURNS = (
    "return a dataset to train on, or a mapping with 'train' and perhaps 'validation' and 'test'"
)


class LoadedParts(NamedTuple):
    """Datasets with a length and items by number, or pairs of arrays; None where there is none."""

    train: Any
    validation: Any = None
    test: Any = None
    passed_over: tuple[str, ...] = ()

    def items(self) -> dict[str, Any]:
        """Return the parts that are there, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def is_reference(dataset: str) -> bool:
    """Tell whether a value of ``dataset`` is ``package.module:attribute``."""
    return dataset.count(":") == 1


def imported(reference: str) -> Any:  # noqa: ANN401 - whatever stands there
    """Import a user's own loader; a `DataError` says why that fails, and what to do."""
    module_name, _, attribute = reference.partition(":")
    try:
        loader = getattr(import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # whatever importing foreign code raises
        raise _refusal(
            reference,
            f"{type(error).__name__}: {in_one_line(error)}; its folder must be in PYTHONPATH where "
            "this client runs",
        ) from error
    if not callable(loader):
        raise _refusal(reference, f"is a {type(loader).__name__}; must be a function")
    return loader


def module_state(reference: str) -> tuple[int, int]:
    """Return when the loader's file was changed, and its bytes; zeros where there is none."""
    file = getattr(import_module(reference.partition(":")[0]), "__file__", None)
    if file is None or not Path(file).is_file():
        return 0, 0
    status = Path(file).stat()
    return status.st_mtime_ns, status.st_size


def load_parts(reference: str, context: LoadContext) -> LoadedParts:
    """Call a user's own loader.

    Raises
    ------
    DataError
        It cannot be imported, raises, or returns something else than datasets.
    """
    loader = imported(reference)
    try:
        returned = loader(context)
    except (Exception, SystemExit) as error:  # whatever foreign code raises
        raise _refusal(
            reference,
            f"raised {type(error).__name__}: {in_one_line(error)}; "
            f"`feddag-flwr check-data {reference}` calls it alone",
        ) from error
    parts = _parts(reference, returned)
    if parts.train is None:
        raise _refusal(reference, f"returned nothing to train on; {RETURNS}")
    for name, part in parts.items().items():
        _check_part(reference, name, part)
    return parts


def is_pair(part: object) -> bool:
    """Tell whether something is samples and labels as two arrays."""
    return (
        isinstance(part, tuple | list)
        and len(part) == 2
        and all(hasattr(each, "shape") or isinstance(each, list) for each in part)
    )


def _parts(reference: str, returned: object) -> LoadedParts:
    if isinstance(returned, Mapping):
        found = {
            name: next((returned[key] for key in keys if key in returned), None)
            for name, keys in PART_NAMES.items()
        }
        if found["train"] is None:
            keys = ", ".join(map(repr, returned)) or "nothing"
            raise _refusal(reference, f"returned a mapping of {keys}, without 'train'; {RETURNS}")
        known = {key for keys in PART_NAMES.values() for key in keys}
        return LoadedParts(**found, passed_over=tuple(str(k) for k in returned if k not in known))
    if isinstance(returned, tuple) and not is_pair(returned):
        if len(returned) != 3:
            raise _refusal(reference, f"returned a tuple of {len(returned)}; {RETURNS}")
        return LoadedParts(*returned)
    return LoadedParts(returned)


def _check_part(reference: str, name: str, part: Any) -> None:  # noqa: ANN401
    if _is_many(part):
        raise _refusal(
            reference,
            f"{name} is a list of {len(part)} datasets; name them: {{'train': .., 'test': ..}}",
        )
    count = len(part) if hasattr(part, "__len__") else 0
    if is_pair(part):
        samples, labels = part
        count = len(samples)
        if len(samples) != len(labels):
            raise _refusal(
                reference, f"{name} has {len(samples)} samples and {len(labels)} labels; {RETURNS}"
            )
    elif not hasattr(part, "__getitem__") or not hasattr(part, "__len__"):
        own = "; return its .dataset" if hasattr(part, "dataset") else f"; {RETURNS}"
        raise _refusal(
            reference,
            f"{name} is a {type(part).__name__} without a length or items by number{own}",
        )
    if not count:
        raise _refusal(reference, f"{name} is empty; leave it out or fill it")


def _is_many(part: object) -> bool:
    """Tell whether something is a list of datasets, such as ``random_split`` returns."""
    return (
        isinstance(part, list)
        and bool(part)
        and not isinstance(part[0], tuple | list | Mapping | str)
        and not hasattr(part[0], "shape")
        and all(hasattr(part[0], name) for name in ("__getitem__", "__len__"))
    )


def _refusal(reference: str, why: str) -> DataError:
    return DataError(f"dataset = {reference!r}: {why}")
