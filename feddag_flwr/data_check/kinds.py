"""Which settings read a path, where its owner has not said: kind of the files, kind of the data."""

from __future__ import annotations

from pathlib import Path

from feddag_flwr.data.by_code.loading import is_reference
from feddag_flwr.data.files import opened_archive
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.table_files import TABLE_SUFFIXES
from feddag_flwr.data.tables import part_files
from feddag_flwr.modalities import load_modality
from feddag_flwr.registries import MODALITIES

NPZ, FOLDER, TABLE = "npz", "image-folder", "table"
# What a client's own code returns; its setting ``dataset`` is the reference itself.
CODE = "code"


def kind_of(path: Path) -> str:
    """Tell from a path which setting ``dataset`` reads it; a `DataError` where none does."""
    if is_reference(str(path)) and not path.exists():
        return str(path)
    if path.is_dir():
        return TABLE if _has_tables(path) else FOLDER
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix.lower() in TABLE_SUFFIXES:
        return TABLE
    if path.suffix != ".npz":
        raise DataError(
            f"{path}: neither an .npz archive nor a folder of images nor a table "
            f"({', '.join(TABLE_SUFFIXES)})"
        )
    return NPZ


def modality_of(path: Path, kind: str) -> str:
    """Tell which setting ``modality`` reads a path: that whose array an archive has, else image."""
    if kind == TABLE:
        return "tabular"
    if kind == NPZ:
        try:
            with opened_archive(path) as archive:
                arrays = [name.lower() for name in archive.files]
        except DataError:
            return "image"  # whose reader says what is wrong
        for name in MODALITIES.names:
            if any(array.endswith(load_modality(name).array) for array in arrays):
                return name
    return "image"


def _has_tables(folder: Path) -> bool:
    try:
        return bool(part_files(folder))
    except DataError:
        return False
