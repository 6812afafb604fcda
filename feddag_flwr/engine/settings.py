"""Section ``run``: what is run, how long, and where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.metrics import DEFAULT_METRICS
from feddag_flwr.registries import AGGREGATORS, METRICS, OBSERVERS, POSTPROCESSORS
from feddag_flwr.registry import Registry, RegistryError, name_list
from feddag_flwr.sections import Section, advanced, setting


def _check_names(names: Sequence[str], registry: Registry[Any]) -> None:
    """Refuse names of parts that there cannot be, and one that is there twice."""
    for name in names:
        try:
            registry.check(name)
        except RegistryError as error:
            raise ValueError(f"{name!r} must be {registry.allowed}, separated by commas") from error
    if len(set(names)) < len(names):
        raise ValueError(f"must name each {registry.setting.removesuffix('s')} once")


class RunSettings(Section):
    """What is run, how long, and where it is kept."""

    algorithm: str = setting(
        "feddag", "Algorithm that trains the clients", choices=tuple(ALGORITHMS)
    )
    preset: Literal["own", "paper"] = setting(
        "own",
        "What settings are whose value is 'preset', as it is where none is given: ours, or the "
        "paper's",
        readers=("feddag",),
    )
    seed: int = setting(1, "Seed of every random draw", ge=0, lt=2**31)
    num_clients: int = setting(
        20, "Clients that take part", symbol="N", ge=2, le=100_000, shapes_data=True
    )
    num_rounds: int = setting(
        100, "Training rounds after the profile", symbol="T", ge=0, le=100_000, may_differ=True
    )
    participation: float = setting(
        0.2, "Share of all clients drawn for a round", gt=0, le=1, symbol="R"
    )
    evaluate_every: int = setting(
        10, "Rounds between evaluations of all clients (the last round always)", ge=1, unit="rounds"
    )
    evaluate_participants: bool = advanced(
        True, "Participants evaluate the model they receive, in every round"
    )
    metrics: str = setting(
        ", ".join(DEFAULT_METRICS),
        "What models are judged by, separated by commas, the headline first: "
        f"{', '.join(METRICS.names)}, or package.module:Class",
    )
    keep: Literal["last", "best-validation"] = advanced(
        "last",
        "Models that the run ends with: the last round's, or those that did best on what clients "
        "hold back (validation-share), looked at with each evaluation",
    )
    patience: int = advanced(
        0,
        "Evaluations on end without a better result on what clients hold back, after which the run "
        "ends; 0: never",
        ge=0,
        le=100_000,
        unit="evaluations",
    )
    personalisation_epochs: int = setting(
        0,
        "Epochs of local training that personalise a client's model after the last round, judged "
        "apart; 0: none",
        ge=0,
        le=1000,
        unit="epochs",
    )
    strict: bool = advanced(
        False,
        "A run that left something out (clients, files, columns, classes) ends with exit status 1",
        may_differ=True,
    )
    compare: bool = setting(
        False,
        "Train beside the run one model for all and, of each client, one of its own; at the end "
        "say what each gains",
    )
    compare_every: int = advanced(
        1,
        "Rounds between the comparison's turns of training, in the second half of the run (after "
        "the last round always)",
        ge=1,
        unit="rounds",
        effect=({"compare": (True,)},),
    )
    transport: Literal["float32", "float16", "bfloat16"] = advanced(
        "float32", "Number format in which weights travel; half of the bytes but in float32"
    )
    postprocessors: str = advanced(
        "transport",
        "What becomes of updates on their way to the server, in this order: transport (the number "
        "format, last), or package.module:Class",
    )
    aggregator: str = advanced(
        "mean",
        "How members' updates become one: mean (the paper's), clipped-mean, median, trimmed-mean, "
        "multi-krum, geometric-median, or package.module:Class",
    )
    observers: str = advanced(
        "progress, round-log, checkpoints, closing-table, report",
        "What watches the run, in this order: these, or package.module:Class",
    )
    checkpoint_every: int = advanced(
        1,
        "Rounds between checkpoints (the last round always)",
        ge=1,
        unit="rounds",
        may_differ=True,
    )
    keep_checkpoints: int = advanced(
        3, "Checkpoints that are kept", ge=1, le=1_000_000, may_differ=True
    )
    resume: str = setting(
        "", "Run folder of a stopped run, which goes on there; empty: a new run", place="run"
    )
    run_dir: str = setting(
        "runs", "Folder in which each run makes a folder of its own", place="run"
    )
    run_name: str = setting(
        "", "Name of the run's folder; empty: date, time and algorithm", place="run"
    )

    @field_validator("algorithm")
    @classmethod
    def _known_algorithm(cls, value: str) -> str:
        if value not in ALGORITHMS and value.count(":") != 1:
            raise ValueError(f"must be one of {', '.join(ALGORITHMS)}, or package.module:Class")
        return value

    @field_validator("aggregator")
    @classmethod
    def _known_aggregator(cls, value: str) -> str:
        try:
            return AGGREGATORS.check(value)
        except RegistryError as error:
            raise ValueError(f"must be {AGGREGATORS.allowed}") from error

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: str) -> str:
        _check_names([name.strip() for name in value.split(",")], METRICS)
        return value

    @field_validator("observers", "postprocessors")
    @classmethod
    def _known_parts(cls, value: str, info: ValidationInfo) -> str:
        _check_names(
            name_list(value), OBSERVERS if info.field_name == "observers" else POSTPROCESSORS
        )
        return value

    @field_validator("postprocessors")
    @classmethod
    def _transport_comes_last(cls, value: str) -> str:
        if "transport" in name_list(value)[:-1]:
            raise ValueError("transport must be the last one")
        return value

    @model_validator(mode="after")
    def _transport_is_applied(self) -> RunSettings:
        if self.transport != "float32" and "transport" not in name_list(self.postprocessors):
            raise ValueError(
                f"postprocessors = {self.postprocessors!r}: transport = {self.transport!r} needs "
                "'transport' as the last one"
            )
        return self

    @field_validator("run_name")
    @classmethod
    def _one_folder(cls, value: str) -> str:
        if value in {".", ".."} or "/" in value or "\\" in value:
            raise ValueError("must be one folder name, without slashes")
        if value and not value.strip():
            raise ValueError("must be empty, or one folder name that is not blank")
        return value
