"""Number formats (setting ``transport``), as the last step before an update travels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from feddag_flwr.aggregation import Weights
from feddag_flwr.postprocessors import ClientContext, Postprocessor
from feddag_flwr.records.transport import to_send


class Transport(Postprocessor):
    """What a reply carries in the run's format: see `feddag_flwr.records.transport`.

    A message is rounded as it is written and made trained weights again as it is read, for a reply
    is checked before anything else sees it. So there is nothing left for the server half.
    """

    def on_client(
        self, update: Mapping[str, Weights], received: Mapping[str, Weights], context: ClientContext
    ) -> dict[str, Weights]:
        """Return the parts as they are (float32), or how far they have moved (other formats)."""
        transport = context.settings.run.transport
        return {
            part: to_send(weights, partial(received.__getitem__, part), transport)
            for part, weights in update.items()
        }
