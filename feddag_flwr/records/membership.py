"""How a client introduces itself, and how it is told that it is not wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from flwr.app import ConfigRecord, RecordDict

from feddag_flwr.modalities import Rows, SampleSpec, load_modality
from feddag_flwr.records.limits import Limits
from feddag_flwr.records.values import (
    RecordError,
    class_names_of,
    info_of,
    is_name,
    put_rows,
    rows_of,
    shown,
    spec_of,
    value_of,
)

REJECTION_ACTION = "query.rejection"


class _NoWeights:
    """A request to a node whose client need not be known; no arrays travel."""

    header: ClassVar[None] = None

    def least_down(self) -> int:
        """No arrays travel."""
        return 0

    least_up = least_down


@dataclass(frozen=True)
class DescribeRequest(_NoWeights):
    """Asks a node who it is, in a round; 0 before the first."""

    action: ClassVar[str] = "query.describe"
    counted_as: ClassVar[str] = "describe"

    server_round: int

    def encode(self) -> RecordDict:
        """Write the request."""
        return RecordDict({"info": ConfigRecord({"round": self.server_round})})

    @classmethod
    def decode(cls, content: RecordDict) -> DescribeRequest:
        """Read and check the request."""
        return cls(value_of(info_of(content), "round", int))

    def read_reply(self, content: RecordDict, limits: Limits) -> Description:
        """Read and check what the client says of itself."""
        return Description.decode(content, limits.max_samples, limits.modality)


@dataclass(frozen=True)
class PrepareRequest(DescribeRequest):
    """Asks a node once more who it is, with its samples brought to the federation's spec."""

    counted_as: ClassVar[str] = "prepare"

    spec: SampleSpec

    def encode(self) -> RecordDict:
        """Write the request."""
        shape, details = list(self.spec.shape), self.spec.details
        info: dict[str, Any] = {
            "round": self.server_round,
            "sample-shape": shape,
            "sample-details": details,
        }
        return RecordDict({"info": ConfigRecord(info)})

    @classmethod
    def decode(cls, content: RecordDict) -> PrepareRequest:
        """Read and check the request; the modality has to check the spec."""
        info = info_of(content)
        return cls(value_of(info, "round", int), spec_of(info))

    def read_reply(self, content: RecordDict, limits: Limits) -> Description:
        """Read and check what the client says of its samples as they are now."""
        description = super().read_reply(content, limits)
        if not description.sample_moments:
            raise RecordError("moments are missing")
        return description


def describe_request_of(content: RecordDict) -> DescribeRequest:
    """Read either kind of request to say who one is."""
    kind = PrepareRequest if "sample-shape" in info_of(content) else DescribeRequest
    return kind.decode(content)


@dataclass(frozen=True)
class Rejection(_NoWeights):
    """Tells a client's owner why the server leaves it out; no reply is awaited."""

    action: ClassVar[str] = REJECTION_ACTION
    counted_as: ClassVar[str] = "rejection"

    text: str

    def encode(self) -> RecordDict:
        """Write the message; the reply is an empty one."""
        return RecordDict({"info": ConfigRecord({"rejection": self.text})})

    @classmethod
    def decode(cls, content: RecordDict) -> Rejection:
        """Read the reason, for the client's log: characters that cannot be printed are blanks."""
        text: str = value_of(info_of(content), "rejection", str)
        return cls("".join(char if char.isprintable() else " " for char in text))

    def read_reply(self, content: RecordDict, limits: Limits) -> None:
        """Read nothing."""


@dataclass(frozen=True)
class Description:
    """A client introduces itself (reply to ``query.describe``).

    Attributes
    ----------
    class_names : tuple of str
        None of a client that has no labels.
    sample_moments : tuple of rows
        Of the training samples, see `Modality.moments`. Empty where many samples have to be
        prepared first: the server asks for them by a `PrepareRequest`.
    true_group : int or None
        Group that a made-up scenario put the client in, where there is one. For the adjusted Rand
        index and the algorithm ``oracle``, and for nothing else.
    joins_in : int
        Round from which the client takes part; 0: from now on.
    sample_shape, sample_details : tuple of int, str
        As in `SampleSpec`.
    files_left_out : int
        Files that could not be read, and images in no class's folder.
    """

    client: str
    class_names: tuple[str, ...]
    sample_shape: tuple[int, ...]
    train_samples: int
    test_samples: int
    sample_moments: Rows
    true_group: int | None = None
    joins_in: int = 0
    modality: str = "image"
    sample_details: str = ""
    files_left_out: int = 0

    @property
    def labelled(self) -> bool:
        """Whether it has labels."""
        return bool(self.class_names)

    @property
    def spec(self) -> SampleSpec:
        """What all samples have in common."""
        return SampleSpec(self.sample_shape, self.sample_details)

    def without_samples(self) -> Description:
        """Return an introduction in which no sample has a say: one to train, none to test.

        Where profiles are private, noisy counts come with them; pixels have no moments.
        """
        plain = ((0.0, 0.0),) * self.sample_shape[0]
        return replace(self, train_samples=1, test_samples=0, sample_moments=plain)

    def encode(self) -> RecordDict:
        """Write the reply."""
        info: dict[str, Any] = {
            "client": self.client,
            "class-names": list(self.class_names),
            "modality": self.modality,
            "sample-shape": list(self.sample_shape),
            "sample-details": self.sample_details,
            "train-samples": self.train_samples,
            "test-samples": self.test_samples,
            **put_rows("moments", self.sample_moments),
            "joins-in": self.joins_in,
        }
        if self.true_group is not None:
            info["true-group"] = self.true_group
        if self.files_left_out:
            info["files-left-out"] = self.files_left_out
        return RecordDict({"info": ConfigRecord(info)})

    @classmethod
    def decode(cls, content: RecordDict, limit: int, modality: str = "image") -> Description:
        """Read and check the reply.

        Counts must lie in 1..limit (train), 0..limit (test), and samples be of the `modality`.
        """
        info = info_of(content)
        client = value_of(info, "client", str)
        if not is_name(client):
            raise RecordError(f"client = {shown(client)} is no name")
        train, test = value_of(info, "train-samples", int), value_of(info, "test-samples", int)
        if not 1 <= train <= limit:
            raise RecordError(f"train-samples = {train} is outside 1..{limit}")
        if not 0 <= test <= limit:
            raise RecordError(f"test-samples = {test} is outside 0..{limit}")
        if (theirs := value_of(info, "modality", str)) != modality:
            raise RecordError(f"modality = {shown(theirs)}, the federation's is {modality}")
        spec, moments, checker = spec_of(info), rows_of(info, "moments"), load_modality(modality)
        try:
            checker.check(spec)
            if moments or not checker.prepared_anew:
                checker.check_moments(spec, moments)
        except Exception as error:  # whatever a user's own modality raises at nonsense
            raise RecordError(str(error)) from error
        group = value_of(info, "true-group", int) if "true-group" in info else None
        unlabelled = value_of(info, "class-names", list) == []
        names = () if unlabelled else class_names_of(info)
        joins_in = value_of(info, "joins-in", int)
        if joins_in < 0:
            raise RecordError(f"joins-in = {joins_in} is below 0")
        files = value_of(info, "files-left-out", int) if "files-left-out" in info else 0
        if not 0 <= files <= limit:
            raise RecordError(f"files-left-out = {files} is outside 0..{limit}")
        shape, details = spec
        return cls(
            client, names, shape, train, test, moments, group, joins_in, modality, details, files
        )
