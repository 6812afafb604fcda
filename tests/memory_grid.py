"""The in-process grid with faults on request, and runs of a second or two on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from flwr.app import Array, Error, Message
from flwr.clientapp import ClientApp

from feddag_flwr.engine.runs import build_strategy
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import InProcessGrid, load_client_app
from feddag_flwr.simulation.grid import FIRST_NODE, partitions

# From (partition id, action, reply) to the reply that arrives; None: it never does.
Tamper = Callable[[int, str, Message], Message | None]

# Message types that ask for a round of training.
TRAINING = {"train", "train.dual", "train.choice", "train.mixture", "train.fomaml", "train.ditto"}

QUICK = {
    "num-clients": 6,
    "client-groups": 3,
    "num-rounds": 2,
    "participation": 0.7,
    "warmup-rounds": 1,
    "warmup-epochs": 2,
    "batch-size": 128,
    "local-epochs": 1,
    "evaluate-every": 2,
    "join-timeout": 0.2,
    "round-timeout": 30.0,
    # As by default, but for the report: to draw it takes as long as such a run.
    "observers": "progress, round-log, checkpoints, closing-table",
}


class MemoryGrid(InProcessGrid):
    """Replies come in an order drawn from `seed`, tampered with; nodes can leave `connected`."""

    def __init__(
        self,
        settings: Settings,
        *,
        nodes: int | None = None,
        seed: int = 0,
        tamper: Tamper | None = None,
        app: ClientApp | None = None,
        node_configs: Sequence[Mapping[str, bool | int | float | str]] | None = None,
    ) -> None:
        count = settings.run.num_clients if nodes is None else nodes
        super().__init__(
            app or load_client_app(), settings, node_configs or partitions(settings, count)
        )
        self.tamper = tamper
        self.connected = set(self.contexts)
        self.most_under_way = 0
        self.sent: list[tuple[str, int]] = []
        self._rng = np.random.default_rng(seed)

    def get_node_ids(self) -> list[int]:
        ids = list(self.connected)
        self._rng.shuffle(ids)
        return ids

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = super().push_messages(messages)
        self.most_under_way = max(self.most_under_way, len(self._replies))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = sorted(set(message_ids) & set(self._replies))
        self._rng.shuffle(ids)
        return super().pull_messages(ids[: self._rng.integers(1, len(ids) + 1)] if ids else [])

    def answer(self, message: Message) -> Message | None:
        node_id, action = message.metadata.dst_node_id, message.metadata.message_type
        self.sent.append((action, node_id))
        if node_id not in self.connected:
            return None
        reply = super().answer(message)
        return self.tamper(node_id - FIRST_NODE, action, reply) if self.tamper else reply


def quick_settings(**changes) -> Settings:
    """Settings for a run of a second or two; keywords with underscores change them."""
    named = {key.replace("_", "-"): value for key, value in changes.items()}
    return Settings.from_run_config({**QUICK, **named})


def run_quickly(
    tmp_path, *, grid_seed=0, tamper=None, name="run", nodes=None, grid=None, **changes
):
    """Run the strategy that the settings name on a memory grid; return (strategy, grid).

    Without checkpoints, which cost a sixth of the time, unless ``observers`` asks for them.
    """
    changes = {"observers": "round-log, closing-table"} | changes
    settings = quick_settings(run_dir=str(tmp_path), run_name=name, **changes)
    grid = grid or MemoryGrid(settings, seed=grid_seed, tamper=tamper, nodes=nodes)
    strategy = build_strategy(settings, RunFolder(settings))
    strategy.start(grid)
    return strategy, grid


def let_come_later(grid: MemoryGrid, nodes: set[int]) -> None:
    """Take nodes off a grid that has not begun; they come once a client has been asked to train."""
    grid.connected -= nodes

    def come(partition: int, action: str, reply: Message) -> Message:
        if action in TRAINING:
            grid.connected |= nodes
        return reply

    grid.tamper = come


def replace_array(reply: Message, key: str, values: np.ndarray) -> Message:
    """Swap one array of a reply."""
    reply.content.array_records["arrays"][key] = Array(values)
    return reply


def array_of(reply: Message, key: str) -> np.ndarray:
    """Copy one array of a reply."""
    return np.array(reply.content.array_records["arrays"][key].numpy())


def failed(reply: Message) -> Message:
    """Put an error in the place of a reply, as Flower does for a ClientApp that raises."""
    metadata = reply.metadata
    request = Message(reply.content, metadata.src_node_id, metadata.message_type)
    request.metadata.__dict__["_message_id"] = metadata.reply_to_message_id
    return Message(Error(2, "ValueError: broken"), reply_to=request)
