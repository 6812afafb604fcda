"""What happens to updates between training and aggregation (setting ``postprocessors``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from feddag_flwr.aggregation import Weights
from feddag_flwr.records import TrainReply
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings


@dataclass(frozen=True)
class ClientContext:
    """Whose update it is, of which round."""

    settings: Settings
    server_round: int
    client: str

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of one draw: of this seed, round and client, and of no other use.

        The server knows all three: what is to be hidden from it needs randomness of the system.
        """
        return generator(
            self.settings.run.seed,
            f"postprocess: {purpose}",
            server_round=self.server_round,
            client=self.client,
        )


class Postprocessor(Protocol):
    """Changes updates on the client, on the server, or on both; each half may be left out.

    It is made without arguments: on the server once a run, on a client once a reply. So the client
    half keeps nothing from one round to the next. It sees what a client has trained in a round
    (`TrainReply`), not profiles, gradients or losses, which are no updates.
    """

    def on_client(
        self, update: Mapping[str, Weights], received: Mapping[str, Weights], context: ClientContext
    ) -> Mapping[str, Weights]:
        """Return what takes the place of the trained parts, of the same sizes, before encoding.

        Parameters
        ----------
        update : mapping of str to Weights
            The parts as they were trained (not differences), or as the postprocessor before left
            them. They are not to be changed in place.
        received : mapping of str to Weights
            The same parts as training started from them.
        """
        del received, context
        return update

    def on_server(
        self, replies: Mapping[str, TrainReply], server_round: int
    ) -> Mapping[str, TrainReply]:
        """Return what takes the place of a round's replies, before outliers are looked for.

        Of the same clients or some of them. `replies` are checked and in the order of client names;
        perhaps there are none. `TrainReply.with_parts` makes one of other parts.
        """
        del server_round
        return replies

    def state_dict(self) -> dict[str, Any]:
        """Return what the server half keeps between rounds, as plain JSON; by default nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned when the checkpoint was written."""
        del state
