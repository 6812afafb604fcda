"""The commands ``feddag-flwr export`` and ``feddag-flwr predict``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from feddag_flwr.checkpoints import Choice
    from feddag_flwr.inference.pictures import Batch
    from feddag_flwr.inference.served import Served


def add_commands(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add ``export`` and ``predict`` to the sub-commands of ``feddag-flwr``."""
    _add_export(commands)
    _add_predict(commands)


def _add_export(commands: Any) -> None:  # noqa: ANN401
    export = commands.add_parser(
        "export",
        help="write a model of a run as TorchScript or ONNX",
        description="Write the model of a cluster, or of a client, from a checkpoint of a run. "
        "The file takes float32 images in [0, 1], or samples that are not scaled yet, any number "
        "of them, and gives logits; the names of the labels are in it, and in OUTPUT.json beside "
        "it.",
    )
    _add_choice(export)
    export.add_argument("--output", type=Path, required=True, metavar="FILE.pt|FILE.onnx")
    export.set_defaults(handler=_export)


def _add_predict(commands: Any) -> None:  # noqa: ANN401
    predict = commands.add_parser(
        "predict",
        help="classify images or rows with a model of a run",
        description="Classify image files, folders of them, tables (CSV, ARFF, Parquet) and .npz "
        "archives (their test part where they have one) with the model of a client, or of a "
        "cluster, from a checkpoint of a run: path, label, probability. Images of any size are "
        "prepared as in training; one that cannot be read gets a line with the reason. The table "
        "of --output has the probabilities of all classes. Where folders are called like classes, "
        "or archives and tables have labels, the accuracy follows.",
    )
    _add_choice(predict)
    predict.add_argument("images", nargs="+", type=Path, metavar="IMAGES")
    predict.add_argument("--output", type=Path, metavar="CSV", help="write there, not to stdout")
    predict.set_defaults(handler=_predict)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER")
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--client", metavar="NAME", help="the model that this client is given")
    whose.add_argument("--cluster", type=int, metavar="Z", help="a cluster's model, from 0")
    parser.add_argument(
        "--round",
        type=_round,
        metavar="N|best",
        help="a round whose checkpoint is kept, or best: that which did best on data held back; "
        "default: the newest",
    )


def _round(text: str) -> Choice:
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be a round or 'best'")
    return int(text)


def _served(options: argparse.Namespace) -> Served:
    from feddag_flwr.inference.served import load_served  # PyTorch takes seconds

    return load_served(
        options.run_folder,
        cluster=options.cluster,
        client=options.client,
        server_round=options.round,
    )


def _export(options: argparse.Namespace) -> int:
    from feddag_flwr.inference.export import export  # PyTorch takes seconds

    served = _served(options)
    description = export(served, options.output)
    print(f"{options.output}: cluster {served.cluster} after round {served.server_round}")
    print(description)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from feddag_flwr.inference.predict import accuracy_line, line_of, predict, write_csv
    from feddag_flwr.modalities import load_modality

    served = _served(options)
    predictions = list(predict(served, _batches(options.images, served)))
    if options.output is not None:
        write_csv(predictions, options.output, served.class_names)
    else:
        for said in predictions:
            print(line_of(said))
    noun = load_modality(served.modality).noun
    print(accuracy_line(predictions, noun), file=sys.stderr)
    return 0 if any(said.probabilities for said in predictions) else 2


def _batches(paths: Sequence[Path], served: Served) -> Iterator[Batch]:
    """Read what is to be classified; of many paths, one that cannot be read costs itself alone."""
    from feddag_flwr.data.samples import DataError
    from feddag_flwr.inference.pictures import broken

    for path in paths:
        try:
            yield from _read([path], served)
        except DataError as error:
            if len(paths) == 1:
                raise
            yield broken(path, error)


def _read(paths: Sequence[Path], served: Served) -> Iterator[Batch]:
    if served.modality == "image":
        from feddag_flwr.inference.pictures import read_batches

        return read_batches(paths, served.form, served.class_names)
    from feddag_flwr.inference.rows import read_samples

    return read_samples(paths, served)
