"""What was found, as tables for a person."""

from __future__ import annotations

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


def print_data(console: Console, found: Inspection, settings: Settings) -> None:
    """Say what kind of data it is."""
    table = Table(title=escape(f"The data of client {found.name!r}"), show_header=False)
    table.add_row("path", escape(str(found.path)))
    table.add_row("kind", _kind(found))
    if found.data is not None:
        data = found.data
        channels, height, width = data.train.samples.shape[1:]
        colours = {1: "grey", 3: "red, green, blue"}.get(channels, f"{channels} channels")
        table.add_row(
            "images", f"{channels} x {height} x {width} (channels, height, width): {colours}"
        )
        table.add_row("pixels", _pixels(data))
        table.add_row(
            "test part",
            f"{settings.data.test_fraction:.0%} of each class held out by seed {settings.run.seed}"
            if found.split_made
            else "given",
        )
    console.print(table)


def _kind(found: Inspection) -> str:
    words = ".npz archive" if found.kind == NPZ else "folder of images"
    if found.kind != NPZ:
        words += " with train" if (found.path / "train").is_dir() else ""
        words += " and test" if (found.path / "test").is_dir() and "train" in words else ""
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
    table = Table(title="Classes")
    table.add_column("class")
    for column in ("train", "test", "vectors sent", "likeness to an image"):
        table.add_column(column, justify="right")
    train, test = (
        np.bincount(part.labels, minlength=len(data.class_names))
        for part in (data.train, data.test)
    )
    sent = {each.label: each for each in vectors}
    held = np.flatnonzero(train + test).tolist()
    for label in held[:MOST_ROWS]:
        its = sent.get(label)
        count = len(its.vectors) if its is not None else 0
        table.add_row(
            escape(data.class_names[label]),
            f"{train[label]:,}",
            f"{test[label]:,}",
            str(count),
            f"{its.likeness:.2f}" if its is not None and count else "",
        )
    if len(held) > MOST_ROWS:
        rest = held[MOST_ROWS:]
        table.add_row(
            f"{len(rest)} more", f"{train[rest].sum():,}", f"{test[rest].sum():,}", "", ""
        )
    table.add_section()
    total = sum(len(each.vectors) for each in vectors)
    table.add_row("all", f"{train.sum():,}", f"{test.sum():,}", f"{total:,}", "")
    console.print(table)
    console.print(
        "Vectors are images. The likeness is the cosine between a vector and the training image "
        "nearest to it: at 1 the vector is that image up to brightness."
    )


def print_disclosures(console: Console, items: list[Item]) -> None:
    """Show what the server learns."""
    table = Table(title="What the server learns of it")
    table.add_column("when")
    table.add_column("what")
    table.add_column("content")
    table.add_column("bytes", justify="right")
    before = ""
    for item in items:
        if item.when != before:
            table.add_section()
        table.add_row(
            item.when if item.when != before else "", item.what, escape(item.content),
            f"{item.nbytes:,}",
        )  # fmt: skip
        before = item.when
    console.print(table)
    console.print("No image and no label leaves the client otherwise. Nothing was sent now.")


def print_fault(console: Console, fault: str) -> None:
    """Say why the data cannot be used; in one line, for the paths in it."""
    console.print(f"[red]unusable:[/] {escape(fault)}", soft_wrap=True)


def print_verdict(console: Console, found: Inspection) -> None:
    """Say what is wrong, and whether the data is good."""
    for warning in found.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    for fault in found.faults:
        print_fault(console, fault)
    if not found.faults:
        count = len(found.warnings)
        console.print("The data is good." if not count else f"Usable, with {count} to look at.")
