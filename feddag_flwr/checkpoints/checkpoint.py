"""What a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from feddag_flwr.state import ServerState


@dataclass(frozen=True, eq=False)
class AlgorithmState:
    """What an algorithm keeps from one round to the next beside the `ServerState`.

    Attributes
    ----------
    arrays : dict of str to dict of str to ndarray
        Groups of named arrays, of booleans, integers or floats. A group is a file: what changes
        together belongs together, and what never changes belongs apart, since a group whose arrays
        are the same objects as in the round before costs a hard link. So that this is safe, an
        array that has been written becomes read-only: hand out a copy of what is changed in place.
    notes : dict of str to JSON
        All else: dicts with text keys, lists, texts, numbers, booleans and None.
    """

    arrays: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


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
    memory : AlgorithmState
        The algorithm's own.
    notes : dict of str to JSON
        The run's own: evaluations, bytes so far, and the like.
    checksum : str
        Of a checkpoint that was read: the SHA-256 over the sums of all its files.
    """

    server_round: int
    settings: dict[str, Any]
    state: ServerState
    memory: AlgorithmState = field(default_factory=AlgorithmState)
    notes: dict[str, Any] = field(default_factory=dict)
    checksum: str = ""
