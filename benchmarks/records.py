"""What trials came to: a line of JSON each, appended as they come; so a plan can go on later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Trial = TypeVar("Trial", bound=DataclassInstance)


@dataclass(frozen=True)
class Records:
    """The records in one file."""

    path: Path

    @classmethod
    def in_folder(cls, folder: Path, name: str = "trials.jsonl") -> Records:
        """Make the folder where there is none yet."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / name)

    def read(self) -> list[dict[str, Any]]:
        """Return all of them; none where there is no file."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines]

    def add(self, *records: Mapping[str, Any]) -> None:
        """Append some."""
        with self.path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def missing(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        """Yield the trials that have no record yet."""
        done = [record["trial"] for record in self.read()]
        return (trial for trial in trials if asdict(trial) not in done)

    def of_trial(self, trial: DataclassInstance, outcome: Mapping[str, Any]) -> None:
        """Append what a trial came to."""
        self.add({"trial": asdict(trial), **outcome})

    def frame(self) -> pd.DataFrame:
        """Return a row a trial: what it was and what it came to."""
        return pd.DataFrame([{**line.pop("trial"), **line} for line in self.read()])
