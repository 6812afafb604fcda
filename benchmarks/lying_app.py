"""The client app, whose clients lie where the plan in the environment says so.

Used by ``liars.py`` alone, in one process. Updates are changed by its postprocessor; here are lies
about data: labels, counts, moments, profiles, drift. A mod of the app sees each message.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
from flwr.app import Array, Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from feddag_flwr.client import actions, session
from feddag_flwr.client.driver import answer
from feddag_flwr.client.registry import ACTIONS, CUSTOM
from feddag_flwr.data.client import ClientData, NodeConfig, partition_name
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.modalities.base import SampleSpec
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings

LOADER = "load_client_data"
PLAN = "FEDDAG_BENCHMARK_LIE"  # who lies and how, as JSON
PROFILES = ("train.profile", "train.full_profile")
EXAGGERATED = 1000  # times as many samples, or as bright
MANY = 30  # partitions of which twenty clients are made, where groups are unequal
SIZES = (5, 5, 4, 4, 2)


def plan() -> dict[str, Any]:
    """Return the plan."""
    return cast(dict[str, Any], json.loads(os.environ[PLAN]))


def true_group(settings: Settings, partition: int) -> int:
    """Return the group that the scenario has put a partition into."""
    place = {"partition-id": partition, "num-partitions": settings.run.num_clients}
    return int(load_client_data(settings, place).true_group or 0)


@lru_cache(maxsize=1)
def unequal_partitions(settings: Settings) -> list[int]:
    """Return twenty of so many partitions, of whose groups there are `SIZES`."""
    left, chosen = list(SIZES), []
    for partition in range(settings.run.num_clients):
        group = true_group(settings, partition)
        if left[group]:
            left[group] -= 1
            chosen.append(partition)
    return chosen


@lru_cache(maxsize=1)
def of_many(settings: Settings) -> Settings:
    """Return the settings under which there are `MANY` clients."""
    return Settings.from_run_config(settings.to_run_config() | {"num-clients": MANY})


def groups_of(settings: Settings, *, unequal: bool) -> list[int]:
    """Return each client's true group."""
    if unequal:
        many = of_many(settings)
        return [true_group(many, partition) for partition in unequal_partitions(many)]
    return [true_group(settings, client) for client in range(settings.run.num_clients)]


def with_flipped_labels(data: ClientData) -> ClientData:
    """Call each class by the name of the next one that the client has."""
    classes = np.unique(data.train.labels)
    called = dict(zip(classes.tolist(), np.roll(classes, 1).tolist(), strict=True))
    labels = np.array([called[label] for label in data.train.labels.tolist()])
    return replace(data, train=replace(data.train, labels=labels.astype(data.train.labels.dtype)))


def loaded(
    settings: Settings,
    node_config: NodeConfig,
    server_round: int = 0,
    spec: SampleSpec | None = None,
) -> ClientData:
    """Load a client's data, of unequal groups or with flipped labels where the plan says so."""
    planned = plan()
    if planned["unequal"]:
        client = int(cast(int, node_config["partition-id"]))
        many = of_many(settings)
        place = {"partition-id": unequal_partitions(many)[client], "num-partitions": MANY}
        data = load_client_data(many, place, server_round, spec)
        data = replace(data, name=partition_name(client, settings.run.num_clients))
    else:
        data = load_client_data(settings, node_config, server_round, spec)
    if planned["attack"].startswith("labels") and data.name in planned["liars"]:
        return with_flipped_labels(data)
    return data


@contextmanager
def data_of(partition: int) -> Iterator[None]:
    """Let whoever asks have another client's data, under its own name."""

    def others(settings: Settings, config: NodeConfig, *more: Any) -> ClientData:  # noqa: ANN401
        own = loaded(settings, config, *more)
        theirs = loaded(settings, {**config, "partition-id": partition}, *more)
        return replace(theirs, name=own.name)

    setattr(session, LOADER, others)
    try:
        yield
    finally:
        setattr(session, LOADER, loaded)


def lie(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a message, and spoil the answer if its client is to lie about its data."""
    planned, partition = plan(), int(cast(int, context.node_config["partition-id"]))
    name, attack = partition_name(partition, planned["clients"]), planned["attack"]
    if name not in planned["liars"]:
        return call_next(message, context)
    kind = message.metadata.message_type
    if kind in PROFILES and attack == "profile copied":
        with data_of(planned["other"]):
            return call_next(message, context)
    if kind.startswith("train") and kind not in PROFILES and attack == "absent":
        raise RuntimeError("this client does not train")
    reply = call_next(message, context)
    if not reply.has_content():
        return reply
    if kind in PROFILES and attack.startswith("profile"):
        _spoil_profile(reply, attack, name)
    elif kind in PROFILES and attack == "encoder scaled":
        _scale(reply, "encoder", EXAGGERATED / 100)
    _spoil_words(reply, attack)
    return reply


def _spoil_words(reply: Message, attack: str) -> None:
    """Exaggerate what a client says of its data."""
    info = reply.content.config_records["info"]
    if attack.endswith("counts") and "samples" in info:
        info["samples"] = cast(int, info["samples"]) * EXAGGERATED
    elif attack == "drift every round" and "drifted" in info:
        info["drifted"] = True
    elif attack == "moments" and "moments" in info:
        moments = cast(list[float], info["moments"])
        info["moments"] = [EXAGGERATED * value for value in moments]


def _spoil_profile(reply: Message, attack: str, name: str) -> None:
    """Put other principal vectors into a profile, and other counts."""
    arrays = next(iter(reply.content.array_records.values()))
    vectors, classes = arrays["vectors"].numpy(), arrays["vector-classes"].numpy()
    rng = generator(0, attack, client=name)
    made = vectors.copy()
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        noise = rng.standard_normal((vectors.shape[1], len(rows)))
        if attack == "profile merging":  # half of it noise: somewhere between all groups
            noise = vectors[rows].T + noise / np.sqrt(vectors.shape[1])
        made[rows] = np.linalg.qr(noise)[0].T
    arrays["vectors"] = Array(made.astype(np.float32))


def _scale(reply: Message, part: str, factor: float) -> None:
    """Make the floats of a part so many times as large."""
    for arrays in reply.content.array_records.values():
        for key in [key for key in arrays if key.startswith(part) and key.endswith("floats")]:
            arrays[key] = Array((factor * arrays[key].numpy()).astype(np.float32))


app = ClientApp(mods=[lie])
for _module in (session, actions):
    setattr(_module, LOADER, loaded)
for _message_type in (*ACTIONS, *CUSTOM):
    _category, _, _action = _message_type.partition(".")
    _register = getattr(app, _category)
    (_register(_action) if _action else _register())(answer)
