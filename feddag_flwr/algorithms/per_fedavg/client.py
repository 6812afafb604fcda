"""Per-FedAvg on the client."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Context, RecordDict

from feddag_flwr.algorithms.per_fedavg.local_training import FirstOrderMAML
from feddag_flwr.algorithms.per_fedavg.messages import FomamlTrainRequest
from feddag_flwr.client.action import Action, Training
from feddag_flwr.client.actions import train_whole
from feddag_flwr.client.session import ClientSession


def train(content: RecordDict, context: Context) -> Training:
    """Evaluate the model received, then train it for the start, not for the model itself."""
    request = FomamlTrainRequest.decode(content)
    session = ClientSession.open(context, request.header)
    return (yield from train_whole(request, session, FirstOrderMAML(request.inner_rate)))


ACTIONS: Mapping[str, Action] = {"train.fomaml": train}
