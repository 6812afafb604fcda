"""What trials came to: a line of JSON each, written as they end; and tables of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feddag_lab.attacks.attack import Attack, AttackTrial, Figures
from feddag_lab.experiments.markdown import ABSENT, table

REPORT = "report.md"
SKIPPED = "skipped"


@dataclass(frozen=True)
class Findings:
    """The folder of the records: a file an attack."""

    folder: Path

    def missing(self, trials: Sequence[AttackTrial]) -> Iterator[AttackTrial]:
        """Yield the trials that have no record yet."""
        done: dict[str, list[Any]] = {}
        for trial in trials:
            if trial.attack not in done:
                done[trial.attack] = [record["trial"] for record in self.read(trial.attack)]
            if asdict(trial) not in done[trial.attack]:
                yield trial

    def add(self, trial: AttackTrial, figures: Figures, seconds: float) -> None:
        """Append a record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"trial": asdict(trial), "figures": dict(figures), "seconds": round(seconds, 1)}
        with self._path(trial.attack).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def read(self, attack: str) -> list[dict[str, Any]]:
        """Return all records of an attack; a last line that was broken off counts for nothing."""
        path = self._path(attack)
        if not path.exists():
            return []
        *whole, rest = path.read_text(encoding="utf-8").split("\n")
        if rest:
            path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
        return [json.loads(line) for line in whole]

    def report(self, attacks: Sequence[Attack]) -> str:
        """Write and return a table an attack, over the seeds of each case."""
        lines: list[str] = []
        for attack in attacks:
            records = [each for each in self.read(attack.name) if SKIPPED not in each["figures"]]
            if records:
                lines += [f"## {attack.title}", "", *_table_of(attack, records)]
        text = "\n".join(lines)
        if text:
            (self.folder / REPORT).write_text(text, encoding="utf-8")
        return text

    def _path(self, attack: str) -> Path:
        return self.folder / f"{attack}.jsonl"


def _table_of(attack: Attack, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lay out a row a case: its mean over seeds, and of the first figure the range."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        trial = {key: value for key, value in record["trial"].items() if key != "seed"}
        groups.setdefault(json.dumps(trial), []).append(record["figures"])
    cases = list(records[0]["trial"]["case"])
    header = ["data set", *cases, "defence", "seeds", *attack.formats]
    rows = []
    for key, figures in groups.items():
        trial = json.loads(key)
        values = [str(trial["case"][name]) for name in cases]
        cells = [
            _cell([each.get(name) for each in figures], form, spread=place == 0)
            for place, (name, form) in enumerate(attack.formats.items())
        ]
        rows.append([trial["dataset"], *values, trial["defence"], str(len(figures)), *cells])
    return table([name.replace("_", " ") for name in header], rows, left=2 + len(cases))


def _cell(values: Sequence[float | None], form: str, *, spread: bool) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ABSENT
    mean = format(float(np.mean(known)), form)
    if not spread or len(known) == 1:
        return mean
    return f"{mean} ({min(known):{form}} to {max(known):{form}})"
