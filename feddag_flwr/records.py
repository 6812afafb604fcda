"""What each message carries: typed at both ends, checked where it comes in.

Every message is a Flower `RecordDict` with at most three records: ``info`` (`ConfigRecord`: names
and labels), ``arrays`` (`ArrayRecord`: weights, vectors, counts) and ``metrics`` (`MetricRecord`).
Decoding checks types, shapes, finiteness and ranges, and raises `RecordError` with the reason; no
object is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.metrics import Evaluation
from feddag_flwr.profile import Profile, subspace_size

PROFILE_ACTION = "train.profile"
DESCRIBE_ACTION = "query.describe"
PHASES = ("primary", "secondary")

# Most names in a list of classes or parts, and the largest believable mean loss of a sample, nats.
MAX_NAMES = 1000
MAX_LOSS = 1e12
# How far products of vectors may be from those of an orthonormal basis, rounded to float32.
ORTHONORMAL = 1e-3


class RecordError(ValueError):
    """A message does not carry what it should."""


# -- reading and writing single values ---------------------------------------------------------


def _info(content: RecordDict) -> Mapping[str, Any]:
    record = content.get("info")
    if not isinstance(record, ConfigRecord):
        raise RecordError("no record 'info'")
    return cast(Mapping[str, Any], record)


def _value(info: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:  # noqa: ANN401
    if key not in info:
        raise RecordError(f"no {key!r} in record 'info'")
    value = info[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise RecordError(f"{key} = {value!r} is of type {type(value).__name__}")
    return value


def _name_list(info: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = _value(info, key, list)
    if not names or len(names) > MAX_NAMES or not all(isinstance(n, str) and n for n in names):
        raise RecordError(f"{key} must be a list of 1 to {MAX_NAMES} names, got {len(names)}")
    if len(set(names)) < len(names):
        raise RecordError(f"{key} names a class twice: {names!r}")
    return tuple(names)


def _image_shape(info: Mapping[str, Any]) -> tuple[int, int, int]:
    shape = _value(info, "image-shape", list)
    if len(shape) != 3 or not all(isinstance(side, int) and 0 < side <= 65_536 for side in shape):
        raise RecordError(f"image-shape must be three positive integers, got {shape!r}")
    return cast(tuple[int, int, int], tuple(shape))


def _numbers(info: Mapping[str, Any], key: str, count: int) -> tuple[float, ...]:
    values = _value(info, key, list)
    if len(values) != count or not all(isinstance(v, float) and np.isfinite(v) for v in values):
        raise RecordError(f"{key} must be {count} finite numbers, got {values!r}")
    return tuple(values)


def _pixel_moments(info: Mapping[str, Any], channels: int) -> tuple[tuple[float, float], ...]:
    means = _numbers(info, "pixel-means", channels)
    squares = _numbers(info, "pixel-squares", channels)
    moments = tuple(zip(means, squares, strict=True))
    # Of pixels in [0, 1]: square of the mean <= mean square <= mean; rounding gets a little room.
    if not all(0 <= m <= 1 and m * m - 1e-6 <= square <= m + 1e-6 for m, square in moments):
        raise RecordError(f"pixel-means, pixel-squares {moments!r} are of no pixels in [0, 1]")
    return moments


def _array(content: RecordDict, key: str, dtype: type, ndim: int) -> NDArray[Any]:
    record = content.get("arrays")
    if not isinstance(record, ArrayRecord) or key not in record:
        raise RecordError(f"no array {key!r}")
    try:
        values: object = record[key].numpy()
    except Exception as error:  # whatever NumPy says of bytes from elsewhere
        raise RecordError(f"array {key!r} cannot be read: {error}") from error
    if not isinstance(values, np.ndarray):  # NumPy opens an archive where the bytes are one
        raise RecordError(f"array {key!r} is no array but {type(values).__name__}")
    if values.dtype != np.dtype(dtype):
        raise RecordError(f"array {key!r} is {values.dtype}, must be {np.dtype(dtype)}")
    if values.ndim != ndim:
        raise RecordError(f"array {key!r} has {values.ndim} dimensions, must have {ndim}")
    if dtype is np.float32 and not np.isfinite(values).all():
        raise RecordError(f"array {key!r} holds NaN or infinite values")
    return values


def _weights(content: RecordDict, key: str) -> Weights:
    weights = Weights(_array(content, f"{key}.floats", np.float32, 1))
    record = content.array_records["arrays"]
    if f"{key}.buffers" in record:
        weights = replace(weights, buffers=_array(content, f"{key}.buffers", np.float32, 1))
    if f"{key}.integers" in record:
        weights = replace(weights, integers=_array(content, f"{key}.integers", np.int64, 1))
    return weights


def _put_weights(arrays: ArrayRecord, key: str, weights: Weights) -> None:
    arrays[f"{key}.floats"] = Array(weights.floats)
    if weights.buffers.size:
        arrays[f"{key}.buffers"] = Array(weights.buffers)
    if weights.integers.size:
        arrays[f"{key}.integers"] = Array(weights.integers)


def check_weights(got: Weights, expected: Weights, name: str) -> None:
    """Refuse weights of another architecture.

    Raises
    ------
    RecordError
        With both lengths.
    """
    if got.sizes != expected.sizes:
        raise RecordError(
            f"{name} has (parameters, buffers, integers) {got.sizes}, must have {expected.sizes}"
        )


def _counts(content: RecordDict, key: str, limit: int) -> NDArray[np.int64]:
    counts = _array(content, key, np.int64, 1)
    if counts.size and (counts.min() < 0 or counts.max() > limit):
        wrong = int(counts.min() if counts.min() < 0 else counts.max())
        raise RecordError(f"{key}: {wrong} is outside 0..{limit}")
    return counts


def arrays_nbytes(content: RecordDict) -> int:
    """Bytes of all arrays in a message, as serialised."""
    return sum(
        len(array.data) for record in content.array_records.values() for array in record.values()
    )


# -- what is asked and answered ----------------------------------------------------------------


@dataclass(frozen=True)
class Description:
    """A client introduces itself (reply to ``query.describe``).

    Attributes
    ----------
    client : str
        Its stable name.
    class_names : tuple of str
        The classes that its data may hold.
    image_shape : tuple of int
        (channels, height, width).
    train_samples, test_samples : int
        Sizes of its two parts.
    pixel_moments : tuple of (float, float)
        A channel: mean and mean square of the training pixels, which lie in [0, 1].
    """

    client: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_samples: int
    test_samples: int
    pixel_moments: tuple[tuple[float, float], ...]

    def encode(self) -> RecordDict:
        """Write the reply."""
        info = ConfigRecord(
            {
                "client": self.client,
                "class-names": list(self.class_names),
                "image-shape": list(self.image_shape),
                "train-samples": self.train_samples,
                "test-samples": self.test_samples,
                "pixel-means": [mean for mean, _ in self.pixel_moments],
                "pixel-squares": [square for _, square in self.pixel_moments],
            }
        )
        return RecordDict({"info": info})

    @classmethod
    def decode(cls, content: RecordDict, limit: int) -> Description:
        """Read and check the reply; counts must lie in 1..limit (train), 0..limit (test)."""
        info = _info(content)
        client = _value(info, "client", str)
        if not client or len(client) > 200 or not client.isprintable():
            raise RecordError(f"client = {client!r} is no name")
        train, test = _value(info, "train-samples", int), _value(info, "test-samples", int)
        if not 1 <= train <= limit:
            raise RecordError(f"train-samples = {train} is outside 1..{limit}")
        if not 0 <= test <= limit:
            raise RecordError(f"test-samples = {test} is outside 0..{limit}")
        shape = _image_shape(info)
        moments = _pixel_moments(info, channels=shape[0])
        return cls(client, _name_list(info, "class-names"), shape, train, test, moments)


@dataclass(frozen=True)
class Task:
    """What every request after the description says: who, when, and for which model.

    Attributes
    ----------
    client : str
        The name that the server knows this node by; a client of another name refuses.
    server_round : int
        0 for the profile.
    class_names : tuple of str
        All classes of the federation, in the order of the classifier's outputs.
    image_shape : tuple of int
        (channels, height, width) of the federation's images.
    pixel_scale : tuple of (float, float)
        A channel: mean and deviation by which pixels in [0, 1] are standardised for training.
    """

    client: str
    server_round: int
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    pixel_scale: tuple[tuple[float, float], ...]

    def info(self) -> dict[str, Any]:
        """Return the values for the record ``info``."""
        return {
            "client": self.client,
            "round": self.server_round,
            "class-names": list(self.class_names),
            "image-shape": list(self.image_shape),
            "pixel-means": [mean for mean, _ in self.pixel_scale],
            "pixel-deviations": [deviation for _, deviation in self.pixel_scale],
        }

    @classmethod
    def decode(cls, content: RecordDict) -> Task:
        """Read and check the common part of a request."""
        info = _info(content)
        shape = _image_shape(info)
        means = _numbers(info, "pixel-means", shape[0])
        deviations = _numbers(info, "pixel-deviations", shape[0])
        if min(deviations) <= 0:
            raise RecordError(f"pixel-deviations must be positive, got {deviations}")
        return cls(
            _value(info, "client", str),
            _value(info, "round", int),
            _name_list(info, "class-names"),
            shape,
            tuple(zip(means, deviations, strict=True)),
        )


def _message(info: Mapping[str, Any], parts: Mapping[str, Weights]) -> RecordDict:
    arrays = ArrayRecord()
    for name, weights in parts.items():
        _put_weights(arrays, name, weights)
    return RecordDict({"info": ConfigRecord(dict(info)), "arrays": arrays})


def _parts(content: RecordDict, info: Mapping[str, Any]) -> dict[str, Weights]:
    return {name: _weights(content, name) for name in _name_list(info, "parts")}


def _check_author(info: Mapping[str, Any], task: Task) -> None:
    """Refuse a reply that is not of the client and the round that were asked."""
    client, server_round = _value(info, "client", str), _value(info, "round", int)
    if client != task.client:
        raise RecordError(f"signed {client!r}, but this node is {task.client!r}")
    if server_round != task.server_round:
        raise RecordError(f"is of round {server_round}, not {task.server_round}")


@dataclass(frozen=True)
class ProfileRequest:
    """Phase 1: the common start theta0 and the seed of the common coordinates."""

    task: Task
    start: dict[str, Weights]
    coordinate_seed: int

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.task.info() | {
            "coordinate-seed": self.coordinate_seed,
            "parts": list(self.start),
        }
        return _message(info, self.start)

    @classmethod
    def decode(cls, content: RecordDict) -> ProfileRequest:
        """Read and check the request."""
        info = _info(content)
        seed = _value(info, "coordinate-seed", int)
        return cls(Task.decode(content), _parts(content, info), seed)


def encode_profile(task: Task, profile: Profile) -> RecordDict:
    """Write the reply to a `ProfileRequest`."""
    content = _message(
        {"client": task.client, "round": task.server_round}, {"encoder": profile.encoder}
    )
    arrays = content.array_records["arrays"]
    arrays["update"] = Array(profile.update)
    arrays["vectors"] = Array(profile.vectors)
    arrays["vector-classes"] = Array(profile.vector_classes)
    arrays["counts"] = Array(profile.counts)
    return content


def decode_profile(
    content: RecordDict,
    task: Task,
    *,
    encoder: Weights,
    coordinates: int,
    samples: int,
    limit: int,
    subspace: float,
) -> Profile:
    """Read and check a profile.

    Parameters
    ----------
    content : RecordDict
        The reply.
    task : Task
        What was asked of whom.
    encoder : Weights
        Weights of the architecture that must come back.
    coordinates : int
        Length of the sparse update.
    samples : int
        Training samples that the client said it has; the counts must add up to it.
    limit : int
        Largest believable count.
    subspace : float
        The setting ``subspace-size``: bounds the vectors of a class.

    Raises
    ------
    RecordError
        With the reason.
    """
    _check_author(_info(content), task)
    counts = _counts(content, "counts", limit)
    if len(counts) != len(task.class_names):
        raise RecordError(f"counts has {len(counts)} classes, must have {len(task.class_names)}")
    if counts.sum() != samples:
        raise RecordError(f"counts add up to {counts.sum()}, the client described {samples}")
    update = _array(content, "update", np.float32, 1)
    if update.shape != (coordinates,):
        raise RecordError(f"update has {update.size} values, must have {coordinates}")
    if not update.any():
        raise RecordError("update is zero everywhere: the angle of Eq. 3 does not exist")
    vectors, classes = _subspace(content, task, counts, subspace)
    weights = _weights(content, "encoder")
    check_weights(weights, encoder, "encoder")
    return Profile(update, vectors, classes, counts, weights)


def _subspace(
    content: RecordDict, task: Task, counts: NDArray[np.int64], subspace: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    vectors = _array(content, "vectors", np.float32, 2)
    classes = _array(content, "vector-classes", np.int64, 1)
    features = int(np.prod(task.image_shape))
    if vectors.shape != (len(classes), features):
        raise RecordError(f"vectors is {vectors.shape}, must be ({len(classes)}, {features})")
    if classes.size and (classes.min() < 0 or classes.max() >= len(counts)):
        raise RecordError(f"vector-classes must lie in 0..{len(counts) - 1}")
    if (np.diff(classes) < 0).any():
        raise RecordError("vector-classes must be in ascending order")
    for label in np.unique(classes):
        rows = vectors[classes == label].astype(np.float64)
        if not counts[label] or len(rows) > subspace_size(subspace, int(counts[label])):
            raise RecordError(f"{len(rows)} vectors of class {label} with {counts[label]} samples")
        if np.abs(rows @ rows.T - np.eye(len(rows))).max() > ORTHONORMAL:
            raise RecordError(f"the vectors of class {label} are not orthonormal")
    return vectors, classes


@dataclass(frozen=True)
class TrainRequest:
    """One round for one client.

    Attributes
    ----------
    task : Task
        Whom it is for.
    parts : dict of str to Weights
        The cluster model: ``primary``, ``classifier``, perhaps ``secondary``; and ``shared``, the
        S' that a source cluster trains, where the secondary phase is due.
    phases : tuple of str
        Which of `PHASES` to run.
    """

    task: Task
    parts: dict[str, Weights]
    phases: tuple[str, ...]

    def encode(self) -> RecordDict:
        """Write the request."""
        info = self.task.info() | {"phases": list(self.phases), "parts": list(self.parts)}
        return _message(info, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> TrainRequest:
        """Read and check the request."""
        info = _info(content)
        phases = _name_list(info, "phases")
        if not set(phases) <= set(PHASES):
            raise RecordError(f"phases must be among {PHASES}, got {phases}")
        return cls(Task.decode(content), _parts(content, info), phases)


@dataclass(frozen=True)
class TrainReply:
    """What one client gives back from one round.

    Attributes
    ----------
    samples : int
        Training samples, the weight of the client in Eq. 18 and 21.
    parts : dict of str to Weights
        ``primary`` and ``classifier`` after the primary phase, ``shared`` after the secondary.
    received : Evaluation
        The model as received on the client's test data.
    """

    samples: int
    parts: dict[str, Weights]
    received: Evaluation

    def encode(self, task: Task) -> RecordDict:
        """Write the reply."""
        info = {
            "client": task.client,
            "round": task.server_round,
            "samples": self.samples,
            "parts": list(self.parts),
        }
        content = _message(info, self.parts)
        _put_evaluation(content, self.received)
        return content

    @classmethod
    def decode(
        cls,
        content: RecordDict,
        task: Task,
        *,
        expected: Mapping[str, Weights],
        samples: int,
        test_samples: int,
    ) -> TrainReply:
        """Read and check a reply.

        Parameters
        ----------
        content : RecordDict
            The reply.
        task : Task
            What was asked of whom.
        expected : mapping of str to Weights
            The parts that must come back, with weights of the right shape.
        samples, test_samples : int
            Training and test samples that the client described.

        Raises
        ------
        RecordError
            With the reason.
        """
        info = _info(content)
        _check_author(info, task)
        said = _value(info, "samples", int)
        if said != samples:
            raise RecordError(f"samples = {said}, the client described {samples}")
        parts = _parts(content, info)
        if set(parts) != set(expected):
            raise RecordError(f"holds parts {sorted(parts)}, must hold {sorted(expected)}")
        for name, weights in parts.items():
            check_weights(weights, expected[name], name)
        return cls(said, parts, _evaluation(content, len(task.class_names), test_samples))


@dataclass(frozen=True)
class EvaluateRequest:
    """A model to evaluate on the client's test data."""

    task: Task
    parts: dict[str, Weights]

    def encode(self) -> RecordDict:
        """Write the request."""
        return _message(self.task.info() | {"parts": list(self.parts)}, self.parts)

    @classmethod
    def decode(cls, content: RecordDict) -> EvaluateRequest:
        """Read and check the request."""
        return cls(Task.decode(content), _parts(content, _info(content)))


@dataclass(frozen=True)
class EvaluateReply:
    """Counts of one evaluation, and the true group where the scenario knows one.

    The true group is used for the adjusted Rand index and for nothing else.
    """

    evaluation: Evaluation
    true_group: int | None = None

    def encode(self, task: Task) -> RecordDict:
        """Write the reply."""
        info = {"client": task.client, "round": task.server_round}
        if self.true_group is not None:
            info |= {"true-group": self.true_group}
        content = _message(info, {})
        _put_evaluation(content, self.evaluation)
        return content

    @classmethod
    def decode(cls, content: RecordDict, task: Task, *, test_samples: int) -> EvaluateReply:
        """Read and check a reply of a client that described `test_samples`."""
        info = _info(content)
        _check_author(info, task)
        group = _value(info, "true-group", int) if "true-group" in info else None
        return cls(_evaluation(content, len(task.class_names), test_samples), group)


def _put_evaluation(content: RecordDict, evaluation: Evaluation) -> None:
    arrays = content.array_records["arrays"]
    arrays["hits"] = Array(evaluation.hits)
    arrays["totals"] = Array(evaluation.totals)
    content["metrics"] = MetricRecord({"loss-sum": evaluation.loss_sum})


def _evaluation(content: RecordDict, num_classes: int, samples: int) -> Evaluation:
    hits, totals = _counts(content, "hits", samples), _counts(content, "totals", samples)
    if len(hits) != num_classes or len(totals) != num_classes:
        raise RecordError(f"hits and totals must have {num_classes} classes")
    if totals.sum() != samples:
        raise RecordError(f"totals add up to {totals.sum()}, the client described {samples}")
    if (hits > totals).any():
        raise RecordError("more hits than samples in a class")
    metrics = content.get("metrics")
    loss = metrics.get("loss-sum") if isinstance(metrics, MetricRecord) else None
    if not isinstance(loss, float) or not 0 <= loss <= MAX_LOSS * max(1, samples):
        raise RecordError(f"loss-sum = {loss!r} is no loss")
    return Evaluation(hits, totals, loss)
