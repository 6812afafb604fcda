"""What was inspection, as tables for a person."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from feddag_flwr.data.client import ClientData
from feddag_flwr.data.pixels import pixel_moments
from feddag_flwr.data_check.disclosure import ClassVectors
from feddag_flwr.data_check.inspection import CODE, FOLDER, NPZ, TABLE, Inspection
from feddag_flwr.data_check.items import Item
from feddag_flwr.data_check.words import plural
from feddag_flwr.modalities import load_modality
from feddag_flwr.modalities.columns import table_in_words
from feddag_flwr.settings import Settings

# Classes in the table; the rest are summed up.
MOST_ROWS = 100


def print_data(console: Console, inspection: Inspection, settings: Settings) -> None:
    """Say what kind of data it is."""
    table = Table(title=escape(f"The data of client {inspection.name!r}"), show_header=False)
    table.add_row("path", escape(str(inspection.path)))
    table.add_row("kind", _kind(inspection))
    if inspection.data is not None:
        for what, words in _samples_in_words(inspection.data, inspection.changes, settings):
            table.add_row(what, escape(words))
        made = (
            f"{settings.data.test_fraction:.0%} of each class held out by seed {settings.run.seed}"
        )
        table.add_row("test part", made if inspection.split_made else "given")
        if share := settings.data.validation_share:
            table.add_row("held back", _held_back(inspection.data, share))
    console.print(table)


def _held_back(data: ClientData, share: float) -> str:
    """Say what is held back from training, and what remains."""
    held_back = 0 if data.validation is None else len(data.validation)
    return f"{held_back:,} (validation-share = {share:g}); {len(data.train):,} remain to train on"


def _kind(inspection: Inspection) -> str:
    kinds = {NPZ: ".npz archive", TABLE: "table", FOLDER: "folder of images", CODE: "own code"}
    words = kinds[inspection.kind]
    if inspection.kind == FOLDER:
        words += " with train" if (inspection.path / "train").is_dir() else ""
        words += " and test" if (inspection.path / "test").is_dir() and "train" in words else ""
    return words


def _samples_in_words(
    data: ClientData, changes: Sequence[str], settings: Settings
) -> Iterator[tuple[str, str]]:
    """Yield what the samples are, and what was done to them: a name and words."""
    if settings.data.modality == "image":
        channels, height, width = data.train.samples.shape[1:]
        colours = {1: "grey", 3: "red, green, blue"}.get(channels, f"{channels} channels")
        yield "images", f"{channels} x {height} x {width} (channels, height, width): {colours}"
        yield from (("prepared", change) for change in changes)
        yield "pixels", _pixels(data)
        return
    modality = load_modality(settings.data.modality)
    spec = data.spec_by(modality)
    yield plural(modality.noun), modality.in_words(spec)
    if settings.data.modality == "tabular":
        for name, content in table_in_words(spec):
            yield f"column {name}", content


def _pixels(data: ClientData) -> str:
    images = data.train.samples
    scale = "0 to 255" if images.dtype == np.uint8 else "0 to 1"
    mean = float(np.mean([channel_mean for channel_mean, _ in pixel_moments(images)]))
    return (
        f"{images.dtype}, from {images.min():g} to {images.max():g} on a scale of {scale}, "
        f"mean {mean:.0%} of it"
    )


def print_classes(
    console: Console, data: ClientData, vectors: list[ClassVectors], settings: Settings
) -> None:
    """Show what each class has, and how near its vectors come to one of its samples."""
    noun = load_modality(settings.data.modality).noun
    article = "an" if noun[0] in "aeiou" else "a"
    table = Table("class", title="Classes")
    for column in ("train", "test", "vectors sent", f"likeness to {article} {noun}"):
        table.add_column(column, justify="right")
    train, test = (
        np.bincount(part.labels, minlength=len(data.class_names))
        for part in (data.train, data.test)
    )
    sent = {of_class.label: of_class for of_class in vectors if len(of_class.vectors)}
    held = np.flatnonzero(train + test).tolist()
    for label in held[:MOST_ROWS]:
        row = [escape(data.class_names[label]), f"{train[label]:,}", f"{test[label]:,}", "0", ""]
        if label in sent:
            row[3:] = str(len(sent[label].vectors)), f"{sent[label].likeness:.2f}"
        table.add_row(*row)
    if len(held) > MOST_ROWS:
        rest = held[MOST_ROWS:]
        table.add_row(
            f"{len(rest)} more", f"{train[rest].sum():,}", f"{test[rest].sum():,}", "", ""
        )
    table.add_section()
    total = sum(len(of_class.vectors) for of_class in vectors)
    table.add_row("all", f"{train.sum():,}", f"{test.sum():,}", f"{total:,}", "")
    console.print(table)
    console.print(
        f"Vectors are {plural(noun)}. The likeness is the cosine between a vector and the training "
        f"{noun} nearest to it: at 1 the vector is that {noun} up to "
        + ("brightness." if noun == "image" else "its scale.")
    )


def print_disclosures(console: Console, items: list[Item], settings: Settings) -> None:
    """Show what the server learns."""
    table = Table("when", "what", "content", title="What the server learns of it")
    table.add_column("bytes", justify="right")
    before = ""
    for item in items:
        if item.when != before:
            table.add_section()
        when = item.when if item.when != before else ""
        table.add_row(when, item.what, escape(item.content), f"{item.nbytes:,}")
        before = item.when
    console.print(table)
    noun = load_modality(settings.data.modality).noun
    console.print(f"No {noun} and no label leaves the client otherwise. Nothing was sent now.")


def print_fault(console: Console, fault: str) -> None:
    """Say why the data cannot be used; in one line, for the paths in it."""
    console.print(f"[red]unusable:[/] {escape(fault)}", soft_wrap=True)


def print_verdict(console: Console, inspection: Inspection) -> None:
    """Say what is wrong, and whether the data is good."""
    for warning in inspection.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for fault in inspection.faults:
        print_fault(console, fault)
    if not inspection.faults:
        count = len(inspection.warnings)
        console.print("The data is good." if not count else f"Usable, with {count} to look at.")
