"""What the settings name beside numbers: files of weights, own parts, own loaders."""

from __future__ import annotations

from pathlib import Path

from feddag_flwr.data.settings import DATASETS
from feddag_flwr.launcher.own_code import find_own_code, own_parts
from feddag_flwr.settings import Settings


def check_named(settings: Settings, app_dir: Path) -> None:
    """Refuse, before any process starts, a missing file of weights and own parts that are none."""
    weights = settings.training.encoder_weights
    if weights and not Path(weights).expanduser().is_file():
        raise ValueError(f"setting encoder-weights = {weights!r}: no such file; download it first")
    check_own_parts(settings, app_dir)


def check_own_parts(settings: Settings, app_dir: Path) -> None:
    """Refuse own parts and loaders that cannot be imported, or are none."""
    own = list(own_parts(settings))
    find_own_code(own, [Path.cwd(), app_dir])
    if own:
        from feddag_flwr.simulation import check_parts  # PyTorch and Flower take seconds

        check_parts(settings)
    if settings.data.dataset not in DATASETS:
        from feddag_flwr.data.by_code.loading import imported  # NumPy takes a moment

        imported(settings.data.dataset)
