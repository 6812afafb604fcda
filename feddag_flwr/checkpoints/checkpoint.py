"""What a checkpoint holds, and what can be wrong with one."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.layout import ModelLayout
from feddag_flwr.state import ServerState


class CheckpointError(RuntimeError):
    """There is no checkpoint that can be used."""


class CheckpointWriteError(CheckpointError):
    """A checkpoint could not be written: disk full, no permission; older ones are untouched."""


class DamagedError(CheckpointError):
    """One checkpoint is torn, truncated, changed or of another kind; says which file and how."""


@dataclass(frozen=True, eq=False)
class AlgorithmState:
    """What an algorithm keeps from one round to the next beside the `ServerState`.

    Attributes
    ----------
    arrays : dict of str to dict of str to ndarray
        Groups of named arrays, of booleans, integers or floats. A group is a file: what changes
        together belongs together, and what never changes apart, for an equal file is linked.
    notes : dict of str to JSON
        All else: dicts with text keys, lists, texts, numbers, booleans and None.
    models : dict of str to dict of str to Weights
        Models of single clients, by client name and part.
    """

    arrays: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Weights]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run as it stands after a round.

    Attributes
    ----------
    server_round : int
        The round, 0 for a federation that has met and not trained yet.
    settings : dict
        Settings of the run, under their hyphenated names (see `lasting_settings`).
    state : ServerState
        Clients, assignments and models.
    layout : ModelLayout
        Names and shapes of the tensors of all models.
    algorithm : AlgorithmState
        The algorithm's own.
    notes : dict of str to JSON
        The run's own: evaluations, bytes so far, and the like.
    checksum : str
        Of a checkpoint that was read: the SHA-256 over the sums of all its files.
    """

    server_round: int
    settings: dict[str, Any]
    state: ServerState
    layout: ModelLayout
    algorithm: AlgorithmState = field(default_factory=AlgorithmState)
    notes: dict[str, Any] = field(default_factory=dict)
    checksum: str = ""
