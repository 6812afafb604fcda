"""What an action is."""

from __future__ import annotations

from collections.abc import Callable, Generator

from flwr.app import Context, Error, RecordDict

from feddag_flwr.trainers import TrainJob, TrainResult

# Yields what is to be trained, receives what came of it, and returns the reply.
Training = Generator[TrainJob, TrainResult, RecordDict]

# From a request's content, and the client's node config and run config, to the reply. Models are
# not trained in it: an action that wants some trained is a generator.
Action = Callable[[RecordDict, Context], RecordDict | Error | Training]
