"""The command ``feddag-flwr check-data``: tells a client's owner beforehand."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.settings import class_list
from feddag_flwr.data_check.inspection import inspect_data
from feddag_flwr.data_check.kinds import kind_of, modality_of
from feddag_flwr.data_check.report import (
    print_classes,
    print_data,
    print_disclosures,
    print_fault,
    print_verdict,
)
from feddag_flwr.settings import Settings, SettingValue

UNUSABLE = 1


def check_data(
    path: Path, name: str, overrides: Mapping[str, SettingValue], picture: Path | None
) -> int:
    """Print what a client's data is and what the server will learn of it; 1 where it is unusable.

    `path` is an archive or a folder, `name` empty for that of its files. Of the settings
    `overrides` source and scenario follow from `path`, and the modality where they do not say it.
    The principal vectors of images are drawn to `picture`.
    """
    console = Console()
    try:
        kind = kind_of(path)
    except DataError as error:
        print_fault(console, str(error))
        return UNUSABLE
    found = {"modality": modality_of(path, kind), **overrides}
    settings = Settings.from_run_config({**found, "scenario": "own", "dataset": kind})
    inspection = inspect_data(path, name, settings)
    print_data(console, inspection, settings)
    if inspection.data is not None and not inspection.faults:
        _print_disclosure(console, inspection.data, settings, picture)
    print_verdict(console, inspection)
    return UNUSABLE if inspection.faults else 0


def _print_disclosure(
    console: Console, data: ClientData, settings: Settings, picture: Path | None
) -> None:
    from feddag_flwr.data_check.disclosure import (
        class_vectors,
        disclosures,
        view_of,
    )  # PyTorch: seconds

    # As the client will: labels in the order of the federation's classes.
    data = in_classes(data, class_list(settings.data.class_names) or data.class_names)
    vectors = class_vectors(data, settings)
    print_classes(console, data, vectors, settings)
    if settings.run.algorithm == "feddag":
        print_disclosures(console, disclosures(data, vectors, settings), settings)
    else:
        console.print(
            f"What the server learns is told for algorithm = 'feddag' only; docs/baselines.md says "
            f"what {settings.run.algorithm!r} sends."
        )
        if settings.privacy.training_on:
            from feddag_flwr.data_check.private import promise_of

            console.print(f"promise: {promise_of(settings)}", soft_wrap=True)
    if picture is not None and settings.data.modality != "image":
        console.print(f"no picture: modality {escape(settings.data.modality)!r} is not of images")
    elif picture is not None:
        from feddag_flwr.data_check.picture import draw_vectors

        view = view_of(data, settings)
        if view.kind in {"projected", "encoder"}:
            what = "Projections" if view.kind == "projected" else "Features"
            console.print(f"{what} are no images: nothing is drawn.")
            return
        draw_vectors(data, vectors, picture, view.shape)
        console.print(f"vectors as images: {escape(str(picture))}", soft_wrap=True)


def add_command(
    commands: Any,  # noqa: ANN401 - argparse has no public type for it
    parse_settings: Callable[[list[str]], Mapping[str, SettingValue]],
) -> None:
    """Add ``check-data`` to the sub-commands of ``feddag-flwr``."""
    check = commands.add_parser(
        "check-data",
        help="tell a client's owner what its data is and what the server will learn of it",
        description="Read a client's own data as the client will, without a server: what it is, "
        "what is wrong with it, and what the server will learn of it. The exit status is 0 if the "
        "client can take part, 1 if not.",
    )
    check.add_argument(
        "path",
        type=Path,
        metavar="PATH",
        help=".npz archive, table (CSV, ARFF, Parquet) or folder of images",
    )
    check.add_argument("--client-name", default="", metavar="NAME", help="default: that of PATH")
    check.add_argument(
        "--run-config",
        action="append",
        default=[],
        metavar="'KEY=VALUE KEY=\"TEXT\"'",
        help="settings of the run, or a TOML file of them; may be repeated, the last one wins",
    )
    check.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="draw the principal vectors as images"
    )
    check.set_defaults(
        handler=lambda options: check_data(
            options.path, options.client_name, parse_settings(options.run_config), options.picture
        )
    )
