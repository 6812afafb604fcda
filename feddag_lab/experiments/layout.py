"""What the files of an experiment hold, as far as the report reads them; checked on reading.

========================  ==========================================================================
``suite.json``            what was to be run: algorithms, scenarios, seeds
``cells/*/cell.json``     one algorithm on one scenario with one seed: how it ended
``cells/*/``              beside it, the files of the run (see `feddag_flwr.run_folder`)
========================  ==========================================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class DamagedError(ValueError):
    """A file is missing, or does not hold what it should."""


class _Record(BaseModel):
    """Keys are written with hyphens; those that the report does not read may be anything."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        strict=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=False,
        validate_by_alias=True,
    )


class Scenario(_Record):
    """How data is split over clients, and where the paper has figures for it.

    Attributes
    ----------
    settings : dict
        What the scenario sets.
    published : str or None
        For instance ``"table_10/label_skew_30/fmnist"``.
    without : list of str
        Algorithms that do not run there.
    """

    settings: dict[str, Any] = {}
    published: str | None = None
    without: list[str] = []


class Suite(_Record):
    """What was to be run: every algorithm on every scenario with every seed, in this order.

    Attributes
    ----------
    name, description : str
    settings : dict
        For every cell.
    algorithms, scenarios : dict
        By display name.
    seeds : list of int
    command_line : dict
        Settings that were given when the suite was run; they win over all others.
    """

    name: str
    description: str = ""
    settings: dict[str, Any] = {}
    algorithms: dict[str, dict[str, Any]] = Field(min_length=1)
    scenarios: dict[str, Scenario] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    command_line: dict[str, Any] = {}

    def settings_of(self, scenario: str, algorithm: str) -> dict[str, Any]:
        """Return what the suite sets for a cell; a later layer wins, as when it was planned."""
        return {
            **self.settings,
            **self.scenarios[scenario].settings,
            **self.algorithms[algorithm],
            **self.command_line,
        }


class CellRecord(_Record):
    """How a cell ended."""

    algorithm: str
    scenario: str
    seed: int
    status: str
    reason: str | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    version: str | None = None
    commit: str | None = None
    backend: str | None = None
    started: str | None = None
    finished: str | None = None


class Score(_Record):
    """One client's figures under the model it is judged by; shares, not percent."""

    balanced_accuracy: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)
    samples: int = Field(ge=1)


class Overall(_Record):
    """Means over clients, as the run wrote them."""

    clients: int = Field(ge=0)
    balanced_accuracy: float | None = None


class Evaluation(_Record):
    """An evaluation: the figures of each client, and their mean."""

    overall: Overall
    by_client: dict[str, Score]


class Bytes(_Record):
    """Bytes of all clients together in one round, by kind of message."""

    down: dict[str, int] = {}
    up: dict[str, int] = {}


class RoundLine(_Record):
    """A line of ``metrics.jsonl``.

    Attributes
    ----------
    round : int
        0 before the first round.
    all : Evaluation or None
        All clients that take part; None in a round without that evaluation.
    tuned : Evaluation or None
        The same after local fine-tuning.
    unseen, unseen_tuned : Evaluation or None
        Clients kept out of training, before and after local fine-tuning.
    moved : dict of str to int
        New cluster of each client that has changed it.
    """

    round: int = Field(ge=0)
    all: Evaluation | None = None
    tuned: Evaluation | None = None
    unseen: Evaluation | None = None
    unseen_tuned: Evaluation | None = None
    bytes: Bytes
    moved: dict[str, int] = {}


class ClusterSummary(_Record):
    """One cluster in ``summary.json``."""

    members: list[str] = []


class Summary(_Record):
    """``summary.json``: how the run ended."""

    num_clusters: int = Field(ge=0)
    adjusted_rand_index: float | None = Field(default=None, ge=-1, le=1)
    bytes_per_client: int | None = Field(default=None, ge=0)
    clusters: list[ClusterSummary] = []
    without_cluster: list[str] = []
    true_groups: dict[str, int] = {}


class RunSettings(_Record):
    """What the report itself needs of ``settings.json``."""

    seed: int
    num_clients: int = Field(ge=1)
    num_rounds: int = Field(ge=0)
    unseen_share: float = Field(default=0.0, ge=0, lt=1)


AnyRecord = TypeVar("AnyRecord", bound=_Record)


def read_text(path: Path) -> str:
    """Read a file of text; a `DamagedError` says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path.name} cannot be read: {error}") from None


def parse(kind: type[AnyRecord], text: str, where: str) -> AnyRecord:
    """Parse one JSON value; a `DamagedError` names `where`, the key and what is wrong with it."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = "/".join(map(str, first["loc"]))
        raise DamagedError(f"{where}: {f'{key}: ' if key else ''}{first['msg']}") from None


def read_record(kind: type[AnyRecord], path: Path) -> AnyRecord:
    """Read and parse one JSON file."""
    return parse(kind, read_text(path), path.name)


def read_lines(path: Path) -> list[RoundLine]:
    """Read ``metrics.jsonl``, one line a round."""
    lines = read_text(path).splitlines()
    return [
        parse(RoundLine, line, f"{path.name}, line {number}")
        for number, line in enumerate(lines, start=1)
    ]
