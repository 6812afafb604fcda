"""Phase 1 on the server: asks every client for its profile, in waves."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from flwr.app import Message
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.models.flat import get_parts, parameter_count
from feddag_flwr.profile import Profile, sparse_size
from feddag_flwr.records import PROFILE_ACTION, ProfileRequest, RecordError, decode_profile
from feddag_flwr.seeds import derived_seed
from feddag_flwr.strategies.clustered import ClusteredStrategy
from feddag_flwr.strategies.roster import MIN_CLIENTS, FederationError

logger = logging.getLogger("flwr")


class EncoderSpool:
    """Keeps the clients' warmed-up encoders in a temporary file until their clusters are known.

    Thousands of encoders would not fit into memory; the file goes when the spool is closed.

    Parameters
    ----------
    folder : Path
        Where the file is made.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._places: dict[str, tuple[int, int, Weights]] = {}

    def put(self, name: str, encoder: Weights) -> None:
        """Append a client's encoder."""
        start = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(encoder.floats).tobytes())
        rest = replace(encoder, floats=np.zeros(0, dtype=np.float32))
        self._places[name] = (start, encoder.floats.nbytes, rest)

    def get(self, name: str) -> Weights:
        """Read a client's encoder back."""
        start, size, rest = self._places[name]
        self._file.seek(start)
        return replace(rest, floats=np.frombuffer(self._file.read(size), dtype=np.float32))

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


@dataclass(frozen=True, eq=False)
class Profiles:
    """All profiles, rows in the order of client names.

    Attributes
    ----------
    names : list of str
        Clients with a valid profile.
    updates : ndarray, shape (N, k), float32
    vectors, vector_classes : list of ndarray
        As in `feddag_flwr.profile.Profile`.
    counts : ndarray, shape (N, C), int64
    encoders : EncoderSpool
    """

    names: list[str]
    updates: NDArray[np.float32]
    vectors: list[NDArray[np.float32]]
    vector_classes: list[NDArray[np.int64]]
    counts: NDArray[np.int64]
    encoders: EncoderSpool


def collect_profiles(strategy: ClusteredStrategy) -> Profiles:
    """Profile all clients of the roll call (Algorithm 1, lines 5-10).

    A client whose profile is missing or invalid is named in the log and stays without a cluster.

    Raises
    ------
    FederationError
        Fewer than two valid profiles came back.
    """
    settings, state, roster = strategy.settings, strategy.state, strategy.roster
    model = strategy.initial_model(dual=False)
    start = get_parts(model)
    coordinate_seed = derived_seed(settings.seed, "profile-coordinates")
    spool = EncoderSpool(strategy.folder.path)

    def requests() -> Iterator[Message]:
        for name in strategy.largest_first(state.clients):
            content = ProfileRequest(strategy.task(name, 0), start, coordinate_seed).encode()
            yield Message(content, roster.nodes[name], PROFILE_ACTION, group_id="0")

    found: dict[str, Profile] = {}
    coordinates = sparse_size(parameter_count(model), settings.gradient_fraction)
    for reply in strategy.exchange.send(requests(), "profile", settings.profile_timeout):
        name = roster.name_of(reply.metadata.src_node_id)
        try:
            profile = decode_profile(
                reply.content,
                strategy.task(name, 0),
                encoder=start["primary"],
                coordinates=coordinates,
                samples=state.clients[name].train_samples,
                limit=settings.max_client_samples,
                subspace=settings.subspace_size,
            )
        except RecordError as error:
            logger.warning("profile: client %s is left out: %s", name, error)
            continue
        spool.put(name, profile.encoder)
        found[name] = profile
    names = sorted(found)
    if len(names) < MIN_CLIENTS:
        raise FederationError(
            f"{len(names)} of {len(state.clients)} clients sent a valid profile, "
            f"{MIN_CLIENTS} are needed at least; the log names the reasons"
        )
    return Profiles(
        names,
        np.stack([found[name].update for name in names]),
        [found[name].vectors for name in names],
        [found[name].vector_classes for name in names],
        np.stack([found[name].counts for name in names]),
        spool,
    )
