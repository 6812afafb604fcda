"""Phase 1 on the server: asks clients for their profiles, in waves."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
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
from feddag_flwr.strategies.algorithm import Algorithm
from feddag_flwr.strategies.outliers import update_lengths

logger = logging.getLogger("flwr")


class DiskBackedWeights:
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
    """Valid profiles, rows in the order of client names.

    Attributes
    ----------
    names : list of str
        Clients with a valid profile; the other attributes have as many rows.
    updates : ndarray, shape (N, k), float32
    vectors, vector_classes : list of ndarray
        As in `feddag_flwr.profile.Profile`.
    counts : ndarray, shape (N, C), int64
    """

    names: list[str]
    updates: NDArray[np.float32]
    vectors: list[NDArray[np.float32]]
    vector_classes: list[NDArray[np.int64]]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, found: Mapping[str, Profile]) -> Profiles:
        """Put profiles in order, one at least."""
        ordered = sorted(found)
        return cls(
            ordered,
            np.array([found[name].update for name in ordered], dtype=np.float32),
            [found[name].vectors for name in ordered],
            [found[name].vector_classes for name in ordered],
            np.array([found[name].counts for name in ordered], dtype=np.int64),
        )


class Profiler:
    """Asks clients for profiles and reads them, in phase 1 and whenever one comes in later.

    Every profile starts from the run's common start and has the same coordinates, so that those
    made later compare with those of phase 1.

    Parameters
    ----------
    algorithm : Algorithm
        The run: its state, settings, exchange and registry.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        model = algorithm.initial_model(dual=False)
        self._start = get_parts(model)
        self._coordinates = sparse_size(
            parameter_count(model), algorithm.settings.gradient_fraction
        )
        self._seed = derived_seed(algorithm.settings.seed, "profile-coordinates")

    def message(self, name: str, server_round: int) -> Message:
        """Make the request for a client's profile."""
        header = self.algorithm.header(name, server_round)
        content = ProfileRequest(header, self._start, self._seed).encode()
        return self.algorithm.message(name, content, PROFILE_ACTION, server_round)

    def read(self, reply: Message, name: str, server_round: int) -> Profile:
        """Read and check the reply to `message`.

        Raises
        ------
        RecordError
            With the reason.
        """
        settings = self.algorithm.settings
        profile = decode_profile(
            reply.content,
            self.algorithm.header(name, server_round),
            encoder=self._start["primary"],
            coordinates=self._coordinates,
            limit=settings.max_client_samples,
            subspace=settings.subspace_size,
        )
        self.algorithm.check_variances("primary", profile.encoder)
        return profile

    def lengths(self, profile: Profile) -> dict[str, float]:
        """Return how far the warm-up moved the encoder."""
        return dict(update_lengths(profile.encoder, self._start["primary"], "the encoder"))

    def collect(self, names: Iterable[str], server_round: int) -> Iterator[tuple[str, Profile]]:
        """Profile clients in an exchange of its own, the largest first.

        A client whose profile is missing or invalid is named in the log and left out.

        Yields
        ------
        tuple of str and Profile
            As they come.
        """
        asked = self.algorithm.largest_first(names)
        messages = (self.message(name, server_round) for name in asked)
        exchange, timeout = self.algorithm.exchange, self.algorithm.settings.profile_timeout
        for reply in exchange.send(messages, timeout):
            name = self.algorithm.registry.name_of(reply.metadata.src_node_id)
            try:
                yield name, self.read(reply, name, server_round)
            except RecordError as error:
                logger.warning("profile: client %s is left out: %s", name, error)


def without_encoder(profile: Profile) -> Profile:
    """Drop the encoder, which only the start of phase 5 needs (Eq. 22)."""
    return replace(profile, encoder=Weights(np.zeros(0, dtype=np.float32)))
