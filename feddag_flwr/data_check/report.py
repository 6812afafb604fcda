"""What was inspection, as tables for a person."""

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from feddag_flwr.data.client import ClientData
from feddag_flwr.data.pixels import pixel_moments
from feddag_flwr.data_check.disclosure import ClassVectors, Item
from feddag_flwr.data_check.inspection import NPZ, Inspection
from feddag_flwr.settings import Settings

# Classes in the table; the rest are summed up.
MOST_ROWS = 100


def print_data(console: Console, inspection: Inspection, settings: Settings) -> None:
    """Say what kind of data it is."""
    table = Table(title=escape(f"The data of client {inspection.name!r}"), show_header=False)
    table.add_row("path", escape(str(inspection.path)))
    table.add_row("kind", _kind(inspection))
    if inspection.data is not None:
        channels, height, width = inspection.data.train.samples.shape[1:]
        colours = {1: "grey", 3: "red, green, blue"}.get(channels, f"{channels} channels")
        shape = f"{channels} x {height} x {width} (channels, height, width)"
        table.add_row("images", f"{shape}: {colours}")
        for change in inspection.changes:
            table.add_row("prepared", escape(change))
        table.add_row("pixels", _pixels(inspection.data))
        made = (
            f"{settings.data.test_fraction:.0%} of each class held out by seed {settings.run.seed}"
        )
        table.add_row("test part", made if inspection.split_made else "given")
    console.print(table)


def _kind(inspection: Inspection) -> str:
    words = ".npz archive" if inspection.kind == NPZ else "folder of images"
    if inspection.kind != NPZ:
        words += " with train" if (inspection.path / "train").is_dir() else ""
        words += " and test" if (inspection.path / "test").is_dir() and "train" in words else ""
    return words


def _pixels(data: ClientData) -> str:
    images = data.train.samples
    scale = "0 to 255" if images.dtype == np.uint8 else "0 to 1"
    mean = float(np.mean([channel_mean for channel_mean, _ in pixel_moments(images)]))
    return (
        f"{images.dtype}, from {images.min():g} to {images.max():g} on a scale of {scale}, "
        f"mean {mean:.0%} of it"
    )


def print_classes(console: Console, data: ClientData, vectors: list[ClassVectors]) -> None:
    """Show what each class has, and how near its vectors come to one of its images."""
    table = Table("class", title="Classes")
    for column in ("train", "test", "vectors sent", "likeness to an image"):
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
        "Vectors are images. The likeness is the cosine between a vector and the training image "
        "nearest to it: at 1 the vector is that image up to brightness."
    )


def print_disclosures(console: Console, items: list[Item]) -> None:
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
    console.print("No image and no label leaves the client otherwise. Nothing was sent now.")


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
