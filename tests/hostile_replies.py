"""Replies that nobody should believe: hypothesis draws what becomes of an honest one."""

from __future__ import annotations

import contextlib
import io
import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import strategies as st
from torch import nn


def tiny(input_shape: tuple[int, int, int]) -> nn.Module:
    """Build an encoder of 520 parameters."""
    return _encoder(nn.Flatten(), nn.Linear(math.prod(input_shape), 8))


def normalised(input_shape: tuple[int, int, int]) -> nn.Module:
    """Build the same with 8 running means, then 8 running variances."""
    return _encoder(nn.Flatten(), nn.Linear(math.prod(input_shape), 8), nn.BatchNorm1d(8))


def _encoder(*layers: nn.Module) -> nn.Module:
    encoder = nn.Sequential(*layers)
    encoder.feature_size = 8
    return encoder


Change = Callable[[Message], Message | None]

NAN, INF = float("nan"), float("inf")
LONG = "x" * 200_000
TEXTS = ["", "client-0", "client-5", "\ud800", "a\nb", "\x00", "../..", LONG, "float32", "float16"]
NUMBERS = [0, -1, 1, 10**7, 2**63 - 1, -(2**63), True, 0.0, -1.0, 1e300, NAN, INF, -INF]
LISTS = [[], [LONG] * 3, ["a", "a"], ["\udfff"], [""], [0], [-1], [2**62] * 3, [NAN],
         [0.5] * 70_000, [True], [b"\xff"], ["primary"], ["0/primary"], ["x"] * 2000]  # fmt: skip
VALUES = [*TEXTS, *NUMBERS, *LISTS, b"", b"\xff" * 1000]


def _saved(values: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


def _archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.zeros(2, np.float32))
    return stream.getvalue()


def _header(shape: str, body: bytes = b"", descr: str = "<f4") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode() + body


BYTES = [
    b"", b"\x00", b"\xff" * 500, b"\x00" * 300_000, pickle.dumps(print),
    _saved(np.array([{}], object)), _archive(), _header("(10,)"), _header("(-3,)"),
    _header("(1000000000000,)", b"\x00" * 8),
    _header("(True,)", b"\x00" * 4), _header("(" * 60), _header("(1," + "1, " * 20 + ")"),
    _header("(2,)", b"\x00" * 8, "|O"), _header("(2,)", b"\x00" * 8, ">f4"),
]  # fmt: skip


def _numpy(array: Array) -> np.ndarray:
    return np.array(array.numpy())


# What may become of an array's values; each keeps Flower's format.
VALUE_CHANGES: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda a: a.astype(np.float64),
    lambda a: a.astype(np.float16),
    lambda a: a.astype(np.int64),
    lambda a: a.astype(np.int8),
    lambda a: a.astype(">f4"),
    lambda a: a.astype(str),
    lambda a: a.astype(complex),
    lambda a: a[..., :-1],
    lambda a: a[:0],
    lambda a: np.concatenate([a, a]),
    lambda a: a[None],
    lambda a: a.T.copy(order="F"),
    lambda a: np.array(a.sum()),
    lambda a: np.zeros(60_000, a.dtype),
    lambda a: np.zeros_like(a),
    lambda a: -a,
    lambda a: a[::-1],
    lambda a: a + np.ones_like(a),
    lambda a: np.full_like(a, a.max() if a.size else 0),
    lambda a: np.full(a.shape, 3e38, np.float32),
    lambda a: np.full(a.shape, -3e38, np.float32),
    lambda a: np.full(a.shape, 1e-45, np.float32),
    lambda a: np.full(a.shape, NAN, np.float32),
    lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, INF, a).astype(np.float32),
    lambda a: np.full(a.shape, 1e300, np.float64),
    lambda a: np.full(a.shape, NAN, np.float64),
    lambda a: np.full(a.shape, 2**62, np.int64),
    lambda a: np.full(a.shape, -1, np.int64),
    lambda a: (a * 1e6).astype(a.dtype),
]


@dataclass(frozen=True)
class Alteration:
    """One change, named for hypothesis's reports."""

    what: str
    apply: Change

    def __call__(self, reply: Message) -> Message | None:
        return self.apply(reply)

    def __repr__(self) -> str:
        return self.what


def _content(reply: Message) -> RecordDict:
    return reply.content


@st.composite
def _of_info(draw) -> Alteration:
    pick, value = draw(st.integers(0, 30)), draw(st.sampled_from(VALUES))
    drop = draw(st.integers(0, 4)) == 0

    def apply(reply: Message) -> Message:
        info = reply.content.get("info")
        if isinstance(info, ConfigRecord) and len(info):
            key = sorted(info)[pick % len(info)]
            if drop:
                del info[key]
            else:
                info[key] = value
        return reply

    return Alteration(f"info[{pick}] = {'nothing' if drop else repr(value)[:60]}", apply)


@st.composite
def _of_array(draw) -> Alteration:
    pick, how = draw(st.integers(0, 30)), draw(st.integers(0, len(VALUE_CHANGES) + len(BYTES) + 2))

    def apply(reply: Message) -> Message:
        arrays = reply.content.get("arrays")
        if not isinstance(arrays, ArrayRecord) or not len(arrays):
            return reply
        key = sorted(arrays)[pick % len(arrays)]
        if how < len(VALUE_CHANGES):
            with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
                # Where an earlier change left no array that could be changed, it stays as it is.
                arrays[key] = Array(VALUE_CHANGES[how](_numpy(arrays[key])))
        elif how < len(VALUE_CHANGES) + len(BYTES):
            data = BYTES[how - len(VALUE_CHANGES)]
            arrays[key] = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=data)
        elif how == len(VALUE_CHANGES) + len(BYTES):
            arrays[key] = Array(dtype=LONG, shape=(), stype="pickle", data=arrays[key].data)
        else:
            del arrays[key]
        return reply

    return Alteration(f"arrays[{pick}]: {how}", apply)


@st.composite
def _of_records(draw) -> Alteration:
    key = draw(st.sampled_from(["info", "arrays", "received-metrics", "judged-metrics", "\ud800"]))
    records = [
        None,
        ConfigRecord({}),
        ConfigRecord({"\ud800": LONG}),
        ArrayRecord({}),
        ArrayRecord({"\udfff": Array(np.zeros(3))}),
        MetricRecord({}),
        MetricRecord({"accuracy.hits": 0, "loss.sum": NAN}),
        MetricRecord({"accuracy.hits": 0, "loss.sum": [1.0, INF]}),
        MetricRecord({"accuracy.hits": 10**18, "loss.sum": 1.0}),
    ]
    pick = draw(st.integers(0, len(records) - 1))

    def apply(reply: Message) -> Message:
        reply.content.pop(key, None)
        if records[pick] is not None:
            reply.content[key] = records[pick].copy()
        return reply

    return Alteration(f"records[{key!a}]: {pick}", apply)


def _in_reply_to(reply: Message, content: RecordDict | Error) -> Message:
    metadata = reply.metadata
    request = Message(RecordDict(), metadata.src_node_id, metadata.message_type)
    request.metadata.__dict__["_message_id"] = metadata.reply_to_message_id
    return Message(content, reply_to=request)


def _with_metadata(**changes: object) -> Change:
    def apply(reply: Message) -> Message:
        for name, value in changes.items():
            reply.metadata.__dict__[f"_{name}"] = value
        return reply

    return apply


ERRORS = [(0, ""), (2, "\n \n"), (2, LONG), (-7, "\ud800"), (10**6, "a" * 10**6)]

MESSAGES = [
    Alteration("no reply", lambda reply: None),
    Alteration("an empty one", lambda reply: _in_reply_to(reply, RecordDict())),
    *(
        Alteration(f"error {each[0]}", lambda reply, each=each: _in_reply_to(reply, Error(*each)))
        for each in ERRORS
    ),
    Alteration("to another message", _with_metadata(reply_to_message_id="message-1")),
    Alteration("to no message", _with_metadata(reply_to_message_id=LONG)),
    Alteration("from another node", _with_metadata(src_node_id=101)),
    Alteration("from nowhere", _with_metadata(src_node_id=2**63)),
    Alteration("of another kind", _with_metadata(message_type="train.other")),
    Alteration("of no kind", _with_metadata(message_type=LONG)),
    Alteration("without content", lambda reply: _emptied(reply)),
]  # fmt: skip


def _emptied(reply: Message) -> Message:
    reply.__dict__["_content"] = None
    return reply


changes = st.one_of(
    st.lists(
        st.one_of(_of_info(), _of_array(), _of_array(), _of_records()), min_size=1, max_size=3
    ),
    st.sampled_from(MESSAGES).map(lambda change: [change]),
)


def changed(reply: Message, by: list[Alteration]) -> Message | None:
    """Apply changes one after the other."""
    for change in by:
        if (reply := change(reply)) is None:
            return None
    return reply
