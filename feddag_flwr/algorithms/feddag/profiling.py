"""Phase 1 on the server: asks clients for their profiles, in waves."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.feddag.messages import (
    DirectionsRequest,
    FullProfileRequest,
    PrivateProfileRequest,
    ProfileRequest,
)
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.federation.outliers import too_long, update_lengths
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.models.flat import get_parts
from feddag_flwr.profile import Profile
from feddag_flwr.records.request import ClientRequest
from feddag_flwr.seeds import derived_seed
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.similarity.unlabelled import Directions

logger = logging.getLogger("flwr")

# Seconds between two lines on how far profiles are.
SAID_EVERY = 1.0


class DiskBackedWeights:
    """Keeps clients' warmed-up encoders, too many for memory, in a temporary file until `close`."""

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
    """Valid profiles of N clients, in the order of names.

    Updates have shape (N, k), counts (N, C); bases (N, C, p, d) are as `pack_bases` makes them.
    Directions and, by name, looks are there where they were asked for.
    """

    names: list[str]
    updates: NDArray[np.floating[Any]]
    bases: NDArray[np.float32]
    counts: NDArray[np.integer[Any]]
    directions: Directions | None = None
    looks: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of(cls, profiles: Mapping[str, Profile]) -> Profiles:
        """Put profiles in order, one at least."""
        names = sorted(profiles)
        ordered = [profiles[name] for name in names]
        vectors = [profile.vectors for profile in ordered]
        classes = [profile.vector_classes for profile in ordered]
        counts = np.array([profile.counts for profile in ordered], dtype=np.int64)
        updates = np.array([profile.update for profile in ordered], dtype=np.float32)
        bases = pack_bases(vectors, classes, counts.shape[1])
        looks = {name: each.looks for name, each in profiles.items() if each.looks is not None}
        return cls(names, updates, bases, counts, _directions_of(ordered), looks)


def _directions_of(profiles: Sequence[Profile]) -> Directions | None:
    found = [profile.directions for profile in profiles if profile.directions is not None]
    if len(found) < len(profiles):
        return None
    samples = [int(profile.counts.sum()) for profile in profiles]
    return Directions.of([each.vectors for each in found], [each.shares for each in found], samples)


class Profiler:
    """Asks clients for their profiles, in phase 1 and whenever one comes in later.

    Every profile starts from the run's common start and has the same coordinates, so that those
    made later compare with those of phase 1.

    Attributes
    ----------
    ledger : PrivacyLedger or None
        What private profiles have cost, where profiles are private.
    """

    def __init__(self, context: FederationContext) -> None:
        self._context = context
        self._start = get_parts(context.initial_model(dual=False))
        self._seed = derived_seed(context.settings.run.seed, "profile-coordinates")
        self.ledger = context.ledger if context.settings.privacy.profile_on else None

    def request(self, name: str, server_round: int) -> ClientRequest[Profile]:
        """Make the request for a client's profile, to be sent: a private one is counted."""
        settings = self._context.settings
        if self.ledger is not None:
            self.ledger.note(name, server_round)
            header = self._context.header(name, server_round)
            return PrivateProfileRequest(header, settings.privacy.profile_dimensions)
        asked = ProfileRequest(
            self._context.header(name, server_round),
            self._start,
            self._seed,
            settings.profile.gradient_fraction,
            settings.profile.warmup_rounds,
            LocalTrainingConfig.of(settings.training).with_epochs(settings.profile.warmup_epochs),
        )
        directions = settings.clustering.unlabelled == "place"
        looks = settings.clustering.looks_level > 0
        if not (directions or looks):
            return asked
        return FullProfileRequest(**vars(asked), directions=directions, looks=looks)

    def directions(self, name: str, server_round: int) -> DirectionsRequest:
        """Make the request to a client that has no labels."""
        return DirectionsRequest(self._context.header(name, server_round))

    def collect(
        self, names: Iterable[str], server_round: int, encoders: DiskBackedWeights | None = None
    ) -> dict[str, Profile]:
        """Profile clients, the largest first; those with a valid profile, without its encoder.

        Where `encoders` takes the encoders, who moved its own absurdly far is left out.
        """
        context, profiles = self._context, {}
        asked = context.largest_first(names)
        progress = ProfileProgress(len(asked))
        lengths: dict[str, dict[str, float]] = {}
        requests = (self.request(name, server_round) for name in asked)
        for name, profile in context.stream(requests, context.profile_wait):
            progress.done(name)
            if encoders is not None and self.ledger is None:
                encoders.put(name, profile.encoder)
                start = self._start["primary"]
                lengths[name] = dict(update_lengths(profile.encoder, start, "the encoder"))
            profiles[name] = without_encoder(profile)
        excessive = too_long(lengths, context.settings.deployment.max_update_ratio, "profile")
        for name in excessive:
            context.leave_out_for_length(name, "profile")
        return {name: profile for name, profile in profiles.items() if name not in excessive}


class ProfileProgress:
    """Logs profiles as they come, a line each, but no more than one a second."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._start = self._said = time.monotonic()

    def done(self, name: str) -> None:
        """Note that a profile is there."""
        self._done += 1
        now = time.monotonic()
        if 1 < self._done < self._total and now - self._said < SAID_EVERY:
            return
        self._said = now
        seconds = now - self._start
        left = timedelta(seconds=round(seconds / self._done * (self._total - self._done)))
        logger.info(
            "profile %*d/%d: %s after %.1f s | about %s left",
            len(str(self._total)), self._done, self._total, name, seconds, left,
        )  # fmt: skip


def without_encoder(profile: Profile) -> Profile:
    """Drop the encoder, which only the start of phase 5 needs (Eq. 22)."""
    return replace(profile, encoder=Weights(np.zeros(0, dtype=np.float32)))
