"""What the files of an experiment hold, as far as the report reads them; checked on reading.

========================  ==========================================================================
``suite.json``            what was to be run, see `feddag_lab.experiments.suite`
``trials/*/trial.json``   one algorithm on one scenario with one seed: how it ended
``trials/*/``             beside it, the files of the run (see `feddag_flwr.run_folder`)
========================  ==========================================================================

Older experiments call them ``cells`` and ``cell.json``, and are read just as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from feddag_lab.experiments.product import under_new_names

TRIALS, OLD_TRIALS = "trials", "cells"
RECORD, OLD_RECORD = "trial.json", "cell.json"


def trials_folder(experiment: Path) -> Path:
    """Return the folder of an experiment's trials, under its old name where it has that alone."""
    old = experiment / OLD_TRIALS
    return old if old.is_dir() and not (experiment / TRIALS).is_dir() else experiment / TRIALS


def record_path(trial: Path) -> Path:
    """Return the file of how a trial ended, under its old name where it has that alone."""
    old = trial / OLD_RECORD
    return old if old.exists() and not (trial / RECORD).exists() else trial / RECORD


class DamagedResultsError(ValueError):
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


def _renamed(*names: str) -> Any:  # noqa: ANN401 - pydantic fields are typed so
    """Read a key by its present name or by the one that older runs wrote."""
    return Field(default=None, validation_alias=AliasChoices(*names))


class TrialRecord(_Record):
    """How a trial ended."""

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


class ClientScore(_Record):
    """One client's figures under the model it is judged by; shares, not percent."""

    balanced_accuracy: float = Field(ge=0, le=1)
    accuracy: float = Field(ge=0, le=1)
    samples: int = Field(ge=1)


class OverallScore(_Record):
    """Means over clients, as the run wrote them."""

    clients: int = Field(ge=0)
    balanced_accuracy: float | None = None


class EvaluationRecord(_Record):
    """An evaluation: the figures of each client, and their mean."""

    overall: OverallScore
    by_client: dict[str, ClientScore]


class RoundBytes(_Record):
    """Bytes of all clients together in one round, by kind of message."""

    down: dict[str, int] = {}
    up: dict[str, int] = {}


class RoundLine(_Record):
    """A line of ``metrics.jsonl``.

    Attributes
    ----------
    round : int
        0 before the first round.
    all : EvaluationRecord or None
        All clients that take part; None in a round without that evaluation.
    tuned : EvaluationRecord or None
        The same after local fine-tuning.
    unseen, unseen_tuned : EvaluationRecord or None
        Clients kept out of training, before and after local fine-tuning.
    moved : dict of str to int
        New cluster of each client that has changed it.
    """

    round: int = Field(ge=0)
    all: EvaluationRecord | None = None
    tuned: EvaluationRecord | None = _renamed("personalised", "tuned")
    unseen: EvaluationRecord | None = _renamed("held-out", "unseen")
    unseen_tuned: EvaluationRecord | None = _renamed("held-out-personalised", "unseen-tuned")
    bytes: RoundBytes
    moved: dict[str, int] = {}


class ClusterSummary(_Record):
    """One cluster in ``summary.json``."""

    members: list[str] = []


class RunSummary(_Record):
    """``summary.json``: how the run ended."""

    num_clusters: int = Field(ge=0)
    adjusted_rand_index: float | None = Field(default=None, ge=-1, le=1)
    bytes_per_client: int | None = Field(default=None, ge=0)
    clusters: list[ClusterSummary] = []
    without_cluster: list[str] = []
    true_groups: dict[str, int] = {}


class RecordedSettings(_Record):
    """What the report itself needs of ``settings.json``."""

    seed: int
    num_clients: int = Field(ge=1)
    num_rounds: int = Field(ge=0)
    held_out_share: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _under_todays_names(cls, values: object) -> object:
        return under_new_names(values) if isinstance(values, dict) else values


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def read_text(path: Path) -> str:
    """Read a file of text; a `DamagedResultsError` says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DamagedResultsError(f"{path.name} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedResultsError(f"{path.name} cannot be read: {error}") from None


def parse(kind: type[AnyRecord], text: str, where: str) -> AnyRecord:
    """Parse one JSON value; a `DamagedResultsError` names `where`, the key and what is wrong."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = "/".join(map(str, first["loc"]))
        raise DamagedResultsError(f"{where}: {f'{key}: ' if key else ''}{first['msg']}") from None


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
