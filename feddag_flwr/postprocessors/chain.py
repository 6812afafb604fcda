"""All postprocessors of a run, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from feddag_flwr.aggregation import Weights
from feddag_flwr.postprocessors import ClientContext, Postprocessor
from feddag_flwr.records import TrainReply
from feddag_flwr.registries import POSTPROCESSORS
from feddag_flwr.registry import RegistryError, name_list


class Postprocessors:
    """The postprocessors that the setting ``postprocessors`` names.

    Clients apply them in the order of the setting. The server applies them in reverse order, so
    that what was done last is undone first.
    """

    def __init__(self, named: Sequence[tuple[str, Postprocessor]]) -> None:
        self._named = tuple(named)

    @classmethod
    def of(cls, text: str) -> Self:
        """Make those that a value of the setting names; `RegistryError` if one cannot be."""
        return cls([(name, POSTPROCESSORS.make(name)) for name in name_list(text)])

    def on_client(
        self, update: Mapping[str, Weights], received: Mapping[str, Weights], context: ClientContext
    ) -> dict[str, Weights]:
        """Return what the trained parts travel as.

        A `RegistryError` names a postprocessor that gave back other parts, or parts of other sizes.
        """
        sizes = {part: weights.sizes for part, weights in update.items()}
        for name, postprocessor in self._named:
            update = postprocessor.on_client(update, received, context)
            made = {part: weights.sizes for part, weights in update.items()}
            if made != sizes:
                raise RegistryError(
                    f"setting postprocessors: {name!r} made parts of sizes {made} for client "
                    f"{context.client!r}, must be {sizes}"
                )
        return {part: update[part] for part in sizes}

    def on_server(
        self, replies: Mapping[str, TrainReply], server_round: int
    ) -> dict[str, TrainReply]:
        """Return what becomes of a round's replies, in the order of client names.

        A `RegistryError` names a postprocessor that gave back a reply of somebody who sent none.
        """
        known = set(replies)
        replies = {client: replies[client] for client in sorted(replies)}
        for name, postprocessor in reversed(self._named):
            processed = postprocessor.on_server(replies, server_round)
            if strangers := sorted(processed.keys() - known):
                raise RegistryError(
                    f"setting postprocessors: {name!r} made replies of {strangers} in round "
                    f"{server_round}, must be of clients that replied"
                )
            replies = {client: processed[client] for client in sorted(processed)}
        return dict(replies)

    def state_dict(self) -> dict[str, Any]:
        """Return the server state of each that keeps any, by name, as plain JSON."""
        states = {name: postprocessor.state_dict() for name, postprocessor in self._named}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Give each its server state back."""
        for name, postprocessor in self._named:
            if name in states:
                postprocessor.load_state_dict(states[name])
