"""A model put to use: what it says of samples, and how often it is right where that is known."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from feddag_flwr.inference.pictures import Batch
from feddag_flwr.inference.served import Served


class Prediction(NamedTuple):
    """What a model says of a sample: its most probable label; the truth where that is known."""

    name: str
    label: str
    probability: float
    truth: str | None


@torch.no_grad()
def predict(served: Served, batches: Iterable[Batch]) -> Iterator[Prediction]:
    """Classify samples, in their order."""
    for batch in batches:
        logits = served.classifier(torch.from_numpy(batch.images))
        best, indices = torch.softmax(logits.double(), dim=1).max(dim=1)
        rows = zip(batch.names, batch.truths, indices.tolist(), best.tolist(), strict=True)
        for name, truth, index, probability in rows:
            yield Prediction(name, served.class_names[index], probability, truth)


def accuracy_line(predictions: Iterable[Prediction], noun: str = "image") -> str:
    """Say how many samples there were, and how many of the known ones were classified rightly."""
    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    count = 0
    for said in predictions:
        count += 1
        if said.truth is not None:
            totals[said.truth] += 1
            hits[said.truth] += said.label == said.truth
    nouns = noun if noun.endswith("s") else f"{noun}s"
    if not totals:
        return f"{count} {nouns}"
    accuracy = sum(hits.values()) / sum(totals.values())
    balanced = float(np.mean([hits[name] / totals[name] for name in totals]))
    return (
        f"{count} {nouns}, {sum(totals.values())} of a known class: "
        f"accuracy {accuracy:.2%}, balanced {balanced:.2%}"
    )


def write_csv(predictions: Iterable[Prediction], path: Path) -> None:
    """Write one line a sample: path, label, probability, and the true class where it is known."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "probability", "truth"))
        for said in predictions:
            writer.writerow((said.name, said.label, f"{said.probability:.6f}", said.truth or ""))
