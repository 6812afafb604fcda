"""A Flower grid in memory: the real ClientApp on made-up nodes, with faults on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from flwr.app import Array, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from client_app.app import app as client_app
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.strategies.registry import build_strategy

# From (partition id, action, reply) to the reply that arrives; None: it never does.
Tamper = Callable[[int, str, Message], Message | None]

QUICK = {
    "num-clients": 6,
    "client-groups": 3,
    "num-rounds": 2,
    "participation": 0.7,
    "warmup-rounds": 1,
    "warmup-epochs": 2,
    "local-epochs": 1,
    "evaluate-every": 2,
    "join-timeout": 0.2,
    "round-timeout": 30.0,
}


class MemoryGrid(Grid):
    """Nodes 101, 102, .. for partitions 0, 1, ..; replies come in an order drawn from `seed`."""

    def __init__(
        self,
        settings: Settings,
        *,
        nodes: int | None = None,
        seed: int = 0,
        tamper: Tamper | None = None,
        app: ClientApp = client_app,
        node_configs: Sequence[Mapping[str, bool | int | float | str]] | None = None,
    ) -> None:
        count = settings.num_clients if nodes is None else nodes
        configs = node_configs or [
            {"partition-id": index, "num-partitions": settings.num_clients}
            for index in range(count)
        ]
        self.app = app
        self.tamper = tamper
        self.contexts = {
            101 + index: Context(
                1, 101 + index, dict(config), RecordDict(), settings.to_run_config()
            )
            for index, config in enumerate(configs)
        }
        self.connected = set(self.contexts)
        self.most_under_way = 0
        self.sent: list[tuple[str, int]] = []
        self._rng = np.random.default_rng(seed)
        self._pending: dict[str, Message] = {}
        self._count = 0

    def set_run(self, run): ...

    @property
    def run(self):
        raise AssertionError("not asked for")

    def create_message(self, *args, **kwargs):
        raise AssertionError("deprecated")

    def get_node_ids(self) -> list[int]:
        ids = list(self.connected)
        self._rng.shuffle(ids)
        return ids

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self._count += 1
            message.metadata.__dict__.update(
                _message_id=f"message-{self._count}", _src_node_id=1, _run_id=1
            )
            self._pending[message.metadata.message_id] = message
            self.sent.append((message.metadata.message_type, message.metadata.dst_node_id))
            ids.append(message.metadata.message_id)
        self.most_under_way = max(self.most_under_way, len(self._pending))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = sorted(set(message_ids) & set(self._pending))
        self._rng.shuffle(ids)
        chosen = ids[: self._rng.integers(1, len(ids) + 1)] if ids else []
        replies = [self._answer(self._pending.pop(message_id)) for message_id in chosen]
        return [reply for reply in replies if reply is not None]

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("the exchange pushes and pulls")

    def _answer(self, message: Message) -> Message | None:
        node_id = message.metadata.dst_node_id
        if node_id not in self.connected:
            return None
        try:
            reply = self.app(message, self.contexts[node_id])
        except Exception as error:
            reply = Message(Error(2, f"{type(error).__name__}: {error}"), reply_to=message)
        if self.tamper is None:
            return reply
        return self.tamper(node_id - 101, message.metadata.message_type, reply)


def quick_settings(**changes) -> Settings:
    """Settings for a run of a second or two; keywords with underscores change them."""
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return Settings.from_run_config({**QUICK, **named})


def run_quickly(
    tmp_path, *, grid_seed=0, tamper=None, name="run", nodes=None, grid=None, **changes
):
    """Run the strategy that the settings name on a memory grid; return (strategy, grid)."""
    settings = quick_settings(run_dir=str(tmp_path), run_name=name, **changes)
    grid = grid or MemoryGrid(settings, seed=grid_seed, tamper=tamper, nodes=nodes)
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    return strategy, grid


def replace_array(reply: Message, key: str, values: np.ndarray) -> Message:
    """Swap one array of a reply."""
    reply.content.array_records["arrays"][key] = Array(values)
    return reply


def array_of(reply: Message, key: str) -> np.ndarray:
    """Copy one array of a reply."""
    return np.array(reply.content.array_records["arrays"][key].numpy())
