"""A model put to use: what it says of samples, and how often it is right where that is known."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from feddag_flwr.inference.pictures import Batch
from feddag_flwr.inference.served import Served


class Prediction(NamedTuple):
    """What a model says of a sample: its most probable label; the truth where that is known.

    Attributes
    ----------
    probabilities : tuple of float
        Of all classes; empty for an image that cannot be read.
    error : str
        Why it cannot be; else empty.
    """

    name: str
    label: str
    probability: float
    truth: str | None
    probabilities: tuple[float, ...] = ()
    error: str = ""


@torch.no_grad()
def predict(served: Served, batches: Iterable[Batch]) -> Iterator[Prediction]:
    """Classify samples, in their order."""
    for batch in batches:
        said: Iterator[list[float]] = iter(())
        if len(batch.images):
            logits = served.classifier(torch.from_numpy(batch.images))
            said = iter(torch.softmax(logits.double(), dim=1).tolist())
        for name, truth, error in zip(batch.names, batch.truths, batch.errors, strict=True):
            if error:
                yield Prediction(name, "", 0.0, truth, (), error)
                continue
            row = next(said)
            index = int(np.argmax(row))
            yield Prediction(name, served.class_names[index], row[index], truth, tuple(row))


def line_of(said: Prediction) -> str:
    """Return what is printed of a sample."""
    if said.error:
        return f"{said.name}\t\t\t{said.error}"
    return f"{said.name}\t{said.label}\t{said.probability:.4f}"


def accuracy_line(predictions: Iterable[Prediction], noun: str = "image") -> str:
    """Say how many samples there were, and how many of the known ones were classified rightly."""
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    count = broken = 0
    for said in predictions:
        count += 1
        broken += bool(said.error)
        if said.truth is not None and not said.error:
            totals[said.truth] += 1
            hits[said.truth] += said.label == said.truth
    nouns = f"{count} {noun if noun.endswith('s') else f'{noun}s'}"
    nouns += f", {broken} of which cannot be read" if broken else ""
    if not totals:
        return nouns
    accuracy = sum(hits.values()) / sum(totals.values())
    balanced = float(np.mean([hits[name] / totals[name] for name in totals]))
    return (
        f"{nouns}, {sum(totals.values())} of a known class: "
        f"accuracy {accuracy:.2%}, balanced {balanced:.2%}"
    )


def write_csv(predictions: Iterable[Prediction], path: Path, class_names: Sequence[str]) -> None:
    """Write one line a sample: path, label, probability, the true class where it is known.

    Then why it cannot be read, where that is so, and the probability of each class.
    """
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        of_classes = [f"probability of {name}" for name in class_names]
        writer.writerow(("path", "label", "probability", "truth", "error", *of_classes))
        for said in predictions:
            known = f"{said.probability:.6f}" if said.probabilities else ""
            rest = [f"{each:.6f}" for each in said.probabilities] or [""] * len(of_classes)
            writer.writerow((said.name, said.label, known, said.truth or "", said.error, *rest))
